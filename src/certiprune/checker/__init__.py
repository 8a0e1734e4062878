"""An independent program that checks certificates of robustness: it shares no line with the verifier.

    python -m checker CERTIFICATE.npz [...] --model MODEL.onnx [--images IMAGES.npz]

It needs numpy, scipy and onnx only, and this folder can be copied anywhere. It believes neither the verifier nor the
certificate, which is a list of hints. It proves of the network in the ONNX file, in real arithmetic on its stored
weights,

    for every x in the domain with |x - image| <= eps in each input: the label's score is above every other one.

The argument against one other class k (``bounds.py`` computes, ``certificate.py`` puts together, ``graph.py`` reads):

1. Intervals of every value, layer by layer, rounded outward.
2. A linear form c over a value, walked back to the input. At y = A x + b: c' = A^T c, and c b is a constant. At
   y = relu(z), l <= z <= u:  c y >= max(c, 0) low z + min(c, 0) (up z + gap), with low any slope in [0, 1] and
   up z + gap the chord (stable neurons: both lines are z, or 0). At the input a linear form's minimum over a box is a
   sum. A bound on +z or -z of a neuron (Zhang et al. 2018, CROWN) replaces its interval where it is tighter.
3. A split tree for the form score(label) - score(k). At a node the two children say z_j >= 0 and z_j <= 0 for a
   neuron j: every x belongs to one. In a leaf, where the signs s_j hold, neurons that are split are linear, and
   -beta s_j z_j <= 0 with any beta >= 0 may be added to the form (Wang et al. 2021, beta-CROWN). The bound must be
   above 0 in every leaf.
"""

from .certificate import Certificate, Forms, Refused, Report, Tree, ball, check, load, save
from .graph import Graph, Unsupported, read_model

__all__ = [
    "Certificate",
    "Forms",
    "Graph",
    "Refused",
    "Report",
    "Tree",
    "Unsupported",
    "ball",
    "check",
    "load",
    "read_model",
    "save",
]
