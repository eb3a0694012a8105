"""`python -m experiments.ppo_curves`: see `experiments.ppo_curves.experiment`."""

from experiments.cli import run_script
from experiments.ppo_curves.experiment import PPOCurves, run

if __name__ == "__main__":
    run_script(PPOCurves, run, program="python -m experiments.ppo_curves")
