"""What users test their own objects with."""

from aidevos.testing.kit import ADMIN, SERVICE, ObjectKit

__all__ = ["ADMIN", "SERVICE", "ObjectKit"]
