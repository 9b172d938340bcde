"""The test kit for users' own objects."""

from aidevos.testing.kit import ADMIN, SERVICE, ObjectKit

__all__ = ["ADMIN", "SERVICE", "ObjectKit"]
