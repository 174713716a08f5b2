"""The template of :mod:`.claims_page`."""

from ...extras import needs

with needs('lab'):
    import jinja2

PAGE = jinja2.Template(
    """\
# Claims C1 to C4, by network and data

One row is a network on a set of images, one column a claim: {% for kind, mark \
in marks.items() %}{{ mark }} {{ kind }}{{ ', ' if not loop.last }}{% endfor %}.
A verdict is of these images and of the layer that was read. It is *supported*
only if every aspect of the claim has p < {{ alpha }} after Holm's correction
over all aspects and cells of that column in its table; *not supported* if an
aspect's whole interval lies below the least effect that counts; *undecided*
otherwise. Intervals are of 95 % and not corrected; C3's are normal ones about
the bootstrap's error, its p-values exact ones of permuted labels, of the share
those of the interval where they are larger.
{% if missing %}
**Incomplete: {{ missing }} of {{ planned }} planned cells are not measured, and
nothing below is final.**
{% endif %}
{% for line in networks -%}
- {{ line }}
{% endfor %}
Images, the same ones for every network: {{ images }}
Measured on {{ made }}
{% for part in parts %}
## Table: {{ part.title }}
{% if part.missing %}
{{ part.missing }} of {{ part.planned }} cells are not measured.
{% endif %}{% if part.unasked %}
C4 was not asked of {{ part.unasked }} cells.
{% endif %}{% if part.lines %}
{% for line in part.lines -%}
- {{ line }}
{% endfor -%}
{% endif %}{% if loop.first %}
![numbers with their intervals](claims.png)
{% endif %}{% if part.main %}
{{ part.main }}
{% endif %}{% if part.memory %}
C4, top-1 in per cent (mean over the splits) and differences in points:

{{ part.memory }}
{% endif %}{% endfor %}
## Definitions

- *input*: C1's number of the input images themselves, as bytes in RGB. On
  white paper the energy lies where nothing is drawn.
- *C1*: share of the energy within half of the half diagonal, less the uniform
  share; *symmetric*: the mean map's correlation with its quarter turns, which
  must exceed ½.
- *C2*: height of the crown: energy of the rings about the axis less that of
  the trough's ring, in units of the mean energy; the trough is that of the
  fitted `V(r) = a r⁴ − b r² + c`, r in half diagonals. *quartic* is a > 0,
  *brim* the height of the outer rings. Both must reach 0.1.
- *C3*: share of the variance of exp(iθ) that class angles predict of images
  that are left out: (R_c² − R²) / (1 − R²), R_c the mean cosine of an image's
  angle to the mean direction of the others of its class, R that to all others.
  It is the smaller, the fewer images a class has. *angle depends on class*:
  mutual information, adjusted for that of permuted labels. The
  feature plane is the PCA plane about the data's mean, fitted without labels.
  *planes agree*: Fisher and Lee's correlation of the classes' angles in both
  planes.
- *C4*: a memory of bottleneck pixels votes, without training. *pixel* is the
  plain vote, *image* the vote weighed by the image angle, *position* and
  *radius* by a kernel of the pixel's place and of its distance from the axis,
  *shuffled* by angles of other pixels, *feature* by hue; *centre* is the plain
  vote of the pixels in the middle half of height and width alone, *linear* a
  linear probe. Each takes its k and strength from validation images.
  Five splits test each image once. Differences are paired over images (Agresti
  and Min's interval; p of exact sign flips) and are of these memories. Variants
  of one drawing may lie on both sides. Less than {{ gain }} points are no gain.
- *Variants*: arrows lead from the trained network with its own padding, on the
  data that are varied, to the variant; means over the cells of that line.

A shuffled control or a kernel that does as well says that the angle is not
what helps. Networks see the same images and some are of one family, so that
cells are no independent repetitions: a count of cells is not a test. The
interval over data sets takes each as one observation (Student's t).

`claims.csv` has every aspect with its p-value before and after the correction,
`accuracy.csv` the accuracy of every arm in every split.

## Command

{{ fence }}bash
{{ command }}
{{ fence }}
"""
)
