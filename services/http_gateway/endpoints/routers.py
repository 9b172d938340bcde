"""All API routers, in document order."""

from __future__ import annotations

from .agents import AgentRouter
from .api_gateway import ApiKeyRouter, RateLimitRouter, RouteRouter
from .api_router import APIRouter
from .auth import AccessTokenRouter, AuditRouter, AuthRouter
from .data import DataRouter
from .events import DeadLetterRouter, EventRouter, WebhookRouter
from .objects import DurableObjectRouter
from .operations import OperationRouter
from .projects import ProjectRouter
from .transfers import TransferRouter
from .users import RoleRouter, UserRouter
from .versions import VersionRouter

# fmt: off
ROUTERS: tuple[type[APIRouter], ...] = (
    DurableObjectRouter, VersionRouter, TransferRouter, AuthRouter, UserRouter, RoleRouter, AuditRouter,
    AccessTokenRouter, DeadLetterRouter, DataRouter, ApiKeyRouter, RouteRouter, RateLimitRouter, ProjectRouter,
    WebhookRouter, EventRouter, AgentRouter, OperationRouter,
)
# fmt: on
