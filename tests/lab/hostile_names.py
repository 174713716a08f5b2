"""Names that would be markup if they were not escaped."""

from hypothesis import strategies as st

from u1_plugin.lab.markup import plain

HOSTILE = (
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '</title></td></table>',
    '<!-- ',
    '&lt;b&gt; &amp;',
    '{{ 7 * 7 }}{% raw %}',
    '$x^2$',
    '\\$5 $',
    '_hidden',
    '__init__',
    '*bold* **b** _i_ ~~s~~',
    'a|b',
    '`code` ``x',
    '[text](http://evil.org)',
    '[1](http://evil.org)',
    '![i](x.png)',
    '[+0.1, 0.2]',
    '[^1]: x',
    'https://evil.org www.evil.org',
    '# title #',
    '\\input{/etc/passwd}',
    '\\\\[1cm]',
    '100% & more # _ ^ ~ {}',
    "--- ?` !` '' ,,",
    '[x] * y',
    '=1+1',
    '+cmd|calc',
    '-2+3',
    '@SUM(A1)',
    "'quoted",
    '\x1b[31mred\x1b[0m',
    '\x1b]8;;http://evil.org\x07link',
    '[red]x[/red] [/] \\[bold]',
    ':smile: :warning:',
    'two\nlines\r\n\x0bthree',
    '| a |\n|---|',
    '\u202egnp.exe',
    'caf\u00e9 \u732b \U0001f600 e\u0301',
    '\udcff\udc80',
    'javascript:alert(1)',
    '../../etc/passwd',
    '/absolute',
    '.hidden',
    'a#b?c%41&d',
    'NA',
    'null',
    '007',
    '1e5',
    '',
    ' ',
    'x' * 500,
)
any_text = st.text(st.characters(blacklist_categories=()), max_size=40)


def visible(text: str) -> str:
    """A name as a reader would see it on a page."""
    return plain(text)
