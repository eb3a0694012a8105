"""What goes wrong: with the frames, the time, the car, the actions and the road, by family.

from envs.perturbations import PerturbedEnv, perturb_recording
env = PerturbedEnv(gymnasium.make(envs.LANE_KEEPING), "fog:3+latency:2")
"""

from __future__ import annotations

from envs.camera.info import CameraInfo as CameraInfo
from envs.perturbations.composition import Composition as Composition
from envs.perturbations.env import PerturbedEnv as PerturbedEnv
from envs.perturbations.families.noise import GaussianNoise as GaussianNoise
from envs.perturbations.perturbation import SEVERITIES as SEVERITIES
from envs.perturbations.perturbation import Effect as Effect
from envs.perturbations.perturbation import Moment as Moment
from envs.perturbations.perturbation import Perturbation as Perturbation
from envs.perturbations.perturbation import PerturbationKind as PerturbationKind
from envs.perturbations.perturbation import declare_perturbation as declare_perturbation
from envs.perturbations.recording import PerturbedFrames as PerturbedFrames
from envs.perturbations.recording import RecordedEpisode as RecordedEpisode
from envs.perturbations.recording import perturb_recording as perturb_recording
from envs.perturbations.recording import steering_sign as steering_sign
from envs.perturbations.registry import FAMILIES as FAMILIES
from envs.perturbations.registry import PERTURBATIONS as PERTURBATIONS
from envs.perturbations.registry import make_perturbation as make_perturbation
from envs.perturbations.registry import parse as parse
from envs.perturbations.registry import register as register
