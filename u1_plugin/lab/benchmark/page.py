"""The page of a benchmark's report, in Markdown."""

from ...extras import needs

with needs('lab'):
    import jinja2

PAGE = jinja2.Template(
    """\
# Benchmark {{ suite }}

{{ runs }} runs on {{ hardware }}; {{ versions }}.
{% if processors -%}
**{{ processors }}**
{% endif -%}
{% if runs < planned -%}
**Incomplete: {{ planned - runs }} of {{ planned }} planned runs are not
finished, or no longer in the suite
{%- if primary_is_whole %}; those of the primary comparisons are.
{%- else %}, and nothing below is final.{% endif %}**
{% endif -%}
Top-1 of the last epoch, per cent. Arms are paired by seed: the same
initial weights and order of the samples, checked by their hashes. Differences
are to {{ baseline }}: mean of the pairs with a {{ confidence }} % bootstrap
interval (BCa), Wilcoxon's signed-rank test, the sign-flip permutation test of
the mean, and Holm's correction of the latter over the arms of a table.
{% if not parts | selectattr('primary', 'defined') | list %}
No comparison was named before the runs, so that all of this is exploratory.
{% endif -%}
An effect is claimed only where the interval excludes 0 and Holm's p is below
{{ level }}; a gain is U(1)'s only where the arm beats every control as well.
{% for part in parts %}
## {{ part.title }}
{% if part.anchor %}
{{ part.anchor }}
{% endif %}{% if part.primary %}
### Primary comparisons, named before the runs

{% for line in part.primary_lines -%}
- {{ line }}
{% endfor %}
{{ part.primary }}

Holm's correction is over these comparisons; what follows is exploratory.
*Seen* is the smallest true gain that so many pairs show with a chance of 80 %
by a paired t test; the permutation test, which decides, has less of few pairs.
{% endif %}{% if part.arms %}
{% for line in part.conclusions -%}
- {{ line }}
{% endfor %}
{{ part.arms }}

CPU and memory: a run's processor time and peak memory over the baseline's of
the same seed; median of the pairs, and for the time its quartiles. What else
the machine did is not recorded
{%- if 'u1-zero' in part.arms %}: u1-zero trains the very same network, and
what it differs by is noise{% endif %}.
{{ part.floor }}

![differences]({{ part.address }}-differences.png)

{% if part.others -%}
### U(1) against controls and rivals, on the test split

Difference of the column's arm to the row's, with its interval (uncorrected).

{{ part.others }}

{% endif -%}
{% if part.curves -%}
![learning curves]({{ part.address }}-curves.png)

{% endif -%}
![gain and cost]({{ part.address }}-cost.png)

{% if part.seeds -%}
### How many seeds a gain needs

Standard deviation of the paired differences; the smallest true gain that the
seeds of this table show with a chance of 80 % (two-sided paired t test at 5 %
over the number of compared arms, which is what Holm asks of the smallest p;
the permutation test, which decides, has less of few pairs, none of too few);
and how many seeds it takes to see +{{ gain }} points.

{{ part.seeds }}
{% endif %}{% endif %}{% if part.few %}
### Exploratory arms, with fewer seeds

Beside the baseline of the same seeds; Holm over this table.

{% for line in part.few_lines -%}
- {{ line }}
{% endfor %}
{{ part.few }}

{{ part.few_floor }}
{% endif %}{% if part.ablations %}
### Ablations, on the validation split

The ablations never saw the test split. Differences of validation top-1 to
{{ baseline }}; Holm over this table.

{% for line in part.ablation_lines -%}
- {{ line }}
{% endfor %}
What is best here was chosen by the very values of this table, which flatters
it.

{{ part.ablations }}

{{ part.ablation_floor }}
{% endif %}{% if part.behaviour %}
### Behaviour

Mean over seeds and paired difference to {{ baseline }} with its interval;
Holm's correction over the arms of each quantity.

{% for line in part.behaviour_lines -%}
- {{ line }}
{% endfor %}
{{ part.behaviour }}
{% endif %}{% endfor %}
## Commands

{{ fence }}bash
{{ commands }}
{{ fence }}
"""
)
