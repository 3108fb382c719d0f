"""`conf/*/parameters_scene.yml`."""

from typing import Literal

from cygnet.parameters.base import Parameters

View = Literal["square", "whole", "tiles"]
Camera = Literal["fixed", "moving"]


class SceneParameters(Parameters):
    """`params:scene`: what kind of scene the videos show, and which part of it is looked at."""

    view: View
    camera: Camera
