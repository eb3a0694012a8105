"""A minimal ROS 2 node around an exported Wormwheel policy: images in, Ackermann commands out.

    python ros2_node.py --ros-args -p full_lock_rad:=0.45 -p speed_mps:=1.0

It lies in the folder of `driver.py`. Subscribes to `image` (sensor_msgs/Image, rgb8 or bgr8), publishes `drive`
(ackermann_msgs/AckermannDriveStamped): the steering angle in rad, positive to the left, as ROS has it (REP 103). Speed
is 0 after a fault, and when no image has come for half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Drive(NamedTuple):
    """What goes into the message."""

    steering_angle_rad: float
    """Positive to the left."""
    speed_mps: float
    """0 after a fault."""


class LaneKeeper:
    """What the node does, without ROS."""

    def __init__(self, driver: Any, full_lock_rad: float, speed_mps: float):
        """Take a driver.

        Args:
            driver: a `driver.Driver` whose clock is the node's.
            full_lock_rad: steering angle of the car at full lock, rad.
            speed_mps: speed while all is well.
        """
        self._driver, self._full_lock_rad, self._speed_mps = driver, full_lock_rad, speed_mps

    def on_image(self, height: int, width: int, encoding: str, step: int, data: Any, stamp_s: float) -> Drive:
        """Steer by an image.

        Args:
            height: rows.
            width: columns.
            encoding: "rgb8" or "bgr8".
            step: bytes a row, padding included.
            data: the bytes.
            stamp_s: when it was taken, on the driver's clock.

        Raises:
            ValueError: for another encoding, or another size than the policy's.
        """
        if encoding not in ("rgb8", "bgr8"):
            raise ValueError(f"the image's encoding must be rgb8 or bgr8, got {encoding!r}.")
        rows = np.frombuffer(data, np.uint8).reshape(height, step)[:, : 3 * width]
        image = rows.reshape(height, width, 3)
        return self._command(image if encoding == "rgb8" else image[..., ::-1], stamp_s)

    def on_silence(self) -> Drive:
        """Answer when no image has come for too long."""
        return self._command(None, None)

    def _command(self, image: np.ndarray | None, stamp_s: float | None) -> Drive:
        command = self._driver.drive(image, stamp_s)
        return Drive(command.steering * self._full_lock_rad, 0.0 if command.fault else self._speed_mps)


def main() -> None:
    """Run the node until it is stopped."""
    import rclpy
    from ackermann_msgs.msg import AckermannDriveStamped
    from driver import Driver  # the file beside this one
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node("wormwheel")
    now_s: Callable[[], float] = lambda: node.get_clock().now().nanoseconds * 1e-9  # noqa: E731
    full_lock_rad = node.declare_parameter("full_lock_rad", 0.45).value
    speed_mps = node.declare_parameter("speed_mps", 0.5).value
    keeper = LaneKeeper(Driver(clock=now_s), full_lock_rad, speed_mps)
    publisher = node.create_publisher(AckermannDriveStamped, "drive", 1)
    heard_s = [now_s()]

    def publish(drive: Drive) -> None:
        message = AckermannDriveStamped()
        message.header.stamp = node.get_clock().now().to_msg()
        message.drive.steering_angle, message.drive.speed = drive
        publisher.publish(message)

    def on_image(message: Any) -> None:
        heard_s[0] = now_s()
        stamp_s = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        publish(keeper.on_image(message.height, message.width, message.encoding, message.step, message.data, stamp_s))

    def on_timer() -> None:
        if now_s() - heard_s[0] > 0.5:
            publish(keeper.on_silence())

    node.create_subscription(Image, "image", on_image, 1)
    node.create_timer(0.1, on_timer)
    try:
        rclpy.spin(node)
    finally:
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
