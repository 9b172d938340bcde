"""All API routers, in the order of the document."""

from __future__ import annotations

from services.http_gateway.endpoints.api_keys import ApiKeyRouter
from services.http_gateway.endpoints.api_router import APIRouter
from services.http_gateway.endpoints.audit import AuditRouter
from services.http_gateway.endpoints.auth import AuthRouter
from services.http_gateway.endpoints.confirmation import ConfirmationRouter
from services.http_gateway.endpoints.data import DataRouter
from services.http_gateway.endpoints.data_transfer import DataTransferRouter
from services.http_gateway.endpoints.dead_letters import DeadLetterRouter
from services.http_gateway.endpoints.events import EventRouter
from services.http_gateway.endpoints.mfa import MfaRouter
from services.http_gateway.endpoints.objects import DurableObjectRouter
from services.http_gateway.endpoints.operations import OperationRouter
from services.http_gateway.endpoints.projects import ProjectRouter
from services.http_gateway.endpoints.rate_limits import RateLimitRouter
from services.http_gateway.endpoints.roles import RoleRouter
from services.http_gateway.endpoints.routes import RouteRouter
from services.http_gateway.endpoints.users import UserRouter
from services.http_gateway.endpoints.webhooks import WebhookRouter

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
