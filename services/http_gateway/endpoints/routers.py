"""All API routers, in the order of the document."""

from __future__ import annotations

from .api_keys import ApiKeyRouter
from .api_router import APIRouter
from .audit import AuditRouter
from .auth import AuthRouter
from .confirmation import ConfirmationRouter
from .data import DataRouter
from .data_transfer import DataTransferRouter
from .dead_letters import DeadLetterRouter
from .events import EventRouter
from .mfa import MfaRouter
from .objects import DurableObjectRouter
from .operations import OperationRouter
from .projects import ProjectRouter
from .rate_limits import RateLimitRouter
from .roles import RoleRouter
from .routes import RouteRouter
from .users import UserRouter
from .webhooks import WebhookRouter

ROUTERS: tuple[type[APIRouter], ...] = (
    DurableObjectRouter,
    AuthRouter,
    ConfirmationRouter,
    MfaRouter,
    UserRouter,
    RoleRouter,
    AuditRouter,
    DeadLetterRouter,
    DataRouter,
    DataTransferRouter,
    ApiKeyRouter,
    RouteRouter,
    RateLimitRouter,
    ProjectRouter,
    WebhookRouter,
    EventRouter,
    OperationRouter,
)
