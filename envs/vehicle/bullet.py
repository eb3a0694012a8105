"""The MIT racecar in PyBullet: rigid bodies, motors on the wheels and the steering hinges, tyres that slip.

The car is `racecar/racecar.urdf` of `pybullet_data` with its fixed links (chassis, laser, cameras) fused into one
body and its meshes left out, which changes nothing about its motion and makes a physics step twice as fast. The
steering hinges are position motors whose gain gives the wanted lag and whose top speed is the wanted rate; the rear
wheels are velocity motors that turn as fast as the bend asks of each; the front wheels roll freely.

    vehicle = BulletVehicle(VehicleParams())
    vehicle.reset(x=0.0, y=0.0, yaw=0.0, speed=1.5)
"""

from __future__ import annotations

import math
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from envs.scratch import Scratch
from envs.vehicle.vehicle import CAR_WIDTH_M, GRAVITY, Vehicle, VehicleParams, VehicleState, check_command

WHEELBASE_M = 0.325
"""Distance between the axles of the MIT racecar, m."""
WHEEL_RADIUS_M = 0.05
"""Radius of its wheels, m."""
UNCOPYABLE = (
    "a PyBullet simulator cannot be copied or pickled. Make another env from the same config, or use "
    'vehicle="bicycle" and renderer="warp", which can.'
)
"""What those say that try."""

_LONGEST_STEP_S = 0.0125
_TYRE_STIFFNESS = (
    2e4  # N/m and N s/m: a tyre that gives a little does not hop, and slides before it spins the car around
)
_TYRE_DAMPING = 200.0
_WHEEL_TORQUE_NM = 2.0
_HINGE_TORQUE_NM = 10.0
_HINGES = ("left_steering_hinge_joint", "right_steering_hinge_joint")
_REAR = ("left_rear_wheel_joint", "right_rear_wheel_joint")
_FRONT = ("left_front_wheel_joint", "right_front_wheel_joint")


class BulletVehicle(Vehicle):
    """The MIT racecar on an endless plane, in a PyBullet client of its own; several may live in one process.

    Each reset empties the simulator and loads the car again, so that the same commands give the same states to the
    last bit.
    """

    def __init__(self, params: VehicleParams | None = None):
        """Start a simulator.

        Raises:
            ValueError: if PyBullet is not installed, or the wheelbase is not that of the MIT racecar.
        """
        self.params = params or VehicleParams()
        if abs(self.params.wheelbase_m - WHEELBASE_M) > 1e-6:
            raise ValueError(
                f"The Bullet vehicle has a wheelbase of {WHEELBASE_M} m, got wheelbase_m={self.params.wheelbase_m}. "
                'Use vehicle="bicycle" for another.'
            )
        self._bullet = import_bullet()
        self._connect()

    def _connect(self) -> None:
        text, self._centre_x = _fused_car(self.params.mass_kg)
        scratch = Scratch()
        self._urdf = scratch.path / "racecar.urdf"
        self._urdf.write_bytes(text)
        self._client: int = self._bullet.connect(self._bullet.DIRECT)
        self._release = weakref.finalize(self, release, self._bullet, self._client, scratch)
        self._step_s = 0.0

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(UNCOPYABLE)

    def reset(self, x: float, y: float, yaw: float, speed: float) -> VehicleState:
        """Place the car at a pose, rolling straight on at a speed (m/s); starts the simulator again after `close`."""
        if not self._release.alive:
            self._connect()
        bullet, client, params = self._bullet, self._client, self.params
        bullet.resetSimulation(physicsClientId=client)
        bullet.setGravity(0.0, 0.0, -GRAVITY, physicsClientId=client)
        bullet.setPhysicsEngineParameter(
            numSolverIterations=12, deterministicOverlappingPairs=1, enableFileCaching=1, physicsClientId=client
        )
        self._step_s = 0.0
        plane = bullet.createCollisionShape(bullet.GEOM_PLANE, physicsClientId=client)
        ground = bullet.createMultiBody(0.0, plane, physicsClientId=client)
        bullet.changeDynamics(ground, -1, lateralFriction=1.0, physicsClientId=client)
        half = 0.5 * yaw
        turn = (0.0, 0.0, math.sin(half), math.cos(half))
        flags = bullet.URDF_USE_INERTIA_FROM_FILE
        self._car = bullet.loadURDF(str(self._urdf), (x, y, WHEEL_RADIUS_M), turn, flags=flags, physicsClientId=client)
        count = bullet.getNumJoints(self._car, physicsClientId=client)
        joints = {bullet.getJointInfo(self._car, i, physicsClientId=client)[1].decode(): i for i in range(count)}
        self._hinges = [joints[name] for name in _HINGES]
        self._rear = [joints[name] for name in _REAR]
        for name in (*_REAR, *_FRONT):
            bullet.changeDynamics(
                self._car,
                joints[name],
                lateralFriction=params.friction,
                rollingFriction=0.0,
                spinningFriction=0.0,
                linearDamping=0.0,
                angularDamping=0.0,
                contactStiffness=_TYRE_STIFFNESS,
                contactDamping=_TYRE_DAMPING,
                physicsClientId=client,
            )
            bullet.setJointMotorControl2(
                self._car, joints[name], bullet.VELOCITY_CONTROL, force=0.0, physicsClientId=client
            )
            bullet.resetJointState(self._car, joints[name], 0.0, speed / WHEEL_RADIUS_M, physicsClientId=client)
        velocity = (speed * math.cos(yaw), speed * math.sin(yaw), 0.0)
        bullet.resetBaseVelocity(self._car, velocity, (0.0, 0.0, 0.0), physicsClientId=client)
        self._speed_command = speed
        self._yaw = yaw
        return self._state()

    def step(self, steering: float, speed_target: float, dt_s: float) -> VehicleState:
        """Drive for `dt_s` seconds with one command; see `Vehicle.step`."""
        check_command(steering, speed_target, dt_s)
        bullet, client, params = self._bullet, self._client, self.params
        count = max(1, math.ceil(dt_s / _LONGEST_STEP_S - 1e-9))
        h = dt_s / count
        if h != self._step_s:
            bullet.setTimeStep(h, physicsClientId=client)
            self._step_s = h
        wanted = min(max(steering, -1.0), 1.0) * params.steering_limit_rad
        curvature = math.tan(wanted) / WHEELBASE_M
        gain = -math.expm1(-h / params.steering_lag_s)
        for hinge, side in zip(self._hinges, (1.0, -1.0), strict=True):
            bullet.setJointMotorControl2(
                self._car,
                hinge,
                bullet.POSITION_CONTROL,
                targetPosition=math.atan(curvature * WHEELBASE_M / (1.0 - side * 0.5 * CAR_WIDTH_M * curvature)),
                positionGain=gain,
                velocityGain=1.0,
                maxVelocity=params.steering_rate_radps,
                force=_HINGE_TORQUE_NM,
                physicsClientId=client,
            )
        change = (speed_target - self._speed_command) * -math.expm1(-dt_s / params.speed_lag_s)
        most = params.acceleration_mps2 * dt_s
        self._speed_command += min(max(change, -most), most)
        bend = 0.5 * CAR_WIDTH_M * math.tan(self._steer) / WHEELBASE_M
        bullet.setJointMotorControlArray(
            self._car,
            self._rear,
            bullet.VELOCITY_CONTROL,
            targetVelocities=[self._speed_command * (1.0 - side * bend) / WHEEL_RADIUS_M for side in (1.0, -1.0)],
            forces=[_WHEEL_TORQUE_NM, _WHEEL_TORQUE_NM],
            physicsClientId=client,
        )
        for _ in range(count):
            bullet.stepSimulation(physicsClientId=client)
        return self._state()

    def close(self) -> None:
        """Stop the simulator, until the next reset."""
        self._release()

    def _state(self) -> VehicleState:
        bullet, client = self._bullet, self._client
        (x, y, _), (_, _, qz, qw) = bullet.getBasePositionAndOrientation(self._car, physicsClientId=client)
        (vx, vy, _), _ = bullet.getBaseVelocity(self._car, physicsClientId=client)
        left, right = bullet.getJointStates(self._car, self._hinges, physicsClientId=client)
        yaw = 2.0 * math.atan2(qz, qw)
        self._yaw += (yaw - self._yaw + math.pi) % (2.0 * math.pi) - math.pi
        cosine, sine = math.cos(yaw), math.sin(yaw)
        self._steer = _bicycle_angle(left[0], right[0])
        return VehicleState(
            x - self._centre_x * cosine, y - self._centre_x * sine, self._yaw, vx * cosine + vy * sine, self._steer
        )


def import_bullet() -> Any:
    """The `pybullet` module.

    Raises:
        ValueError: if it is not installed, with what to do.
    """
    try:
        with _without_banner():
            import pybullet
            import pybullet_data  # noqa: F401 - comes with pybullet, and is needed too
    except ImportError as error:
        raise ValueError(
            "PyBullet is not installed, and neither the Bullet vehicle nor the tiny renderer can do without it. "
            "It has wheels for Python 3.11 and "
            'older only: use vehicle="bicycle" and renderer="warp", or an older Python with `pip install pybullet`.'
        ) from error
    return pybullet


@contextmanager
def _without_banner() -> Iterator[None]:
    """Keep C code off standard error: pybullet prints there when it was built, once in every process."""
    if "pybullet" in sys.modules:
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed: there is nothing to keep clean
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def release(bullet: Any, client: int, scratch: Scratch) -> None:
    """Disconnect a client and remove its folder."""
    bullet.disconnect(physicsClientId=client)
    scratch.remove()


def has_bullet() -> bool:
    """Whether PyBullet can be imported."""
    try:
        import_bullet()
    except ValueError:
        return False
    return True


def _bicycle_angle(left: float, right: float) -> float:
    """The angle of one wheel in the middle that steers like the two wheels: the mean of the curvatures they ask for."""
    curvatures = []
    for angle, side in ((left, 1.0), (right, -1.0)):
        slope = math.tan(angle)
        curvatures.append(slope / (WHEELBASE_M + side * 0.5 * CAR_WIDTH_M * slope))
    return math.atan(0.5 * WHEELBASE_M * sum(curvatures))


def _fused_car(mass_kg: float) -> tuple[bytes, float]:
    """The racecar's URDF with its fixed links fused and without meshes.

    Returns:
        The XML, and the distance of the body's centre of mass ahead of the rear axle, m.
    """
    import pybullet_data

    root = ElementTree.parse(Path(pybullet_data.getDataPath()) / "racecar" / "racecar.urdf").getroot()
    links = {link.attrib["name"]: link for link in root.findall("link")}
    moving = [joint for joint in root.findall("joint") if joint.attrib["type"] != "fixed"]
    kept = [_child(joint, "child").attrib["link"] for joint in moving]
    masses = {name: float(_child(_child(links[name], "inertial"), "mass").attrib["value"]) for name in kept}
    body = mass_kg - sum(masses.values())
    if body <= 0.5:
        raise ValueError(
            f"mass_kg must exceed {sum(masses.values()) + 0.5:.2f} for the Bullet vehicle, whose wheels alone weigh "
            f"{sum(masses.values()):.2f}, got {mass_kg}."
        )
    heavy = _child(links["chassis_inertia"], "inertial")  # 4.0 of the 4.33 kg of the fixed links, and where they sit
    centre_x = float(_child(heavy, "origin").attrib["xyz"].split()[0])
    inertia = _child(heavy, "inertia").attrib
    scale = body / float(_child(heavy, "mass").attrib["value"])

    robot = ElementTree.Element("robot", name="racecar")
    base = ElementTree.SubElement(robot, "link", name="body")
    inertial = ElementTree.SubElement(base, "inertial")
    ElementTree.SubElement(inertial, "origin", xyz=f"{centre_x} 0 0", rpy="0 0 0")
    ElementTree.SubElement(inertial, "mass", value=str(body))
    ElementTree.SubElement(inertial, "inertia", {key: str(float(value) * scale) for key, value in inertia.items()})
    for name in kept:
        link = links[name]
        for visual in link.findall("visual"):
            link.remove(visual)
        robot.append(link)
    for joint in moving:
        if _child(joint, "parent").attrib["link"] == "chassis":
            _child(joint, "parent").attrib["link"] = "body"
        robot.append(joint)
    return ElementTree.tostring(robot), centre_x


def _child(element: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = element.find(tag)
    if found is None:
        raise ValueError(
            f"pybullet_data's racecar.urdf has no <{tag}> in <{element.tag}>: "
            "the installed PyBullet is not the expected one."
        )
    return found
