"""The gateway's application: where its parts meet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from forebay_client import AsyncClient
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError, ForebayError
from forebay_schemas.metrics import GatewayMetrics
from redis.exceptions import OutOfMemoryError, RedisError
from starlette.exceptions import HTTPException

from . import chat, health, page, responses
from .batches import routes
from .batches.files import Files
from .batches.jobs import Jobs
from .batches.paying import Payer
from .batches.running import Runner
from .brokers import Brokers
from .calls import Calls
from .errors import ApiError, api_error, invalid_body
from .gate import Gate
from .keys import Keys
from .limits import Limits
from .live import Live
from .models import Ladder
from .repeats import Repeats
from .service import Service, service_of
from .store import connect

_SECURITY = {"key": {"type": "http", "scheme": "bearer", "description": "`fb_...`, of `forebay gateway keys`."}}

models = APIRouter(prefix="/v1/models", responses=responses.ALWAYS)


@models.get("", response_model=responses.ModelList)
async def list_models(service: Annotated[Service, Depends(service_of)]) -> dict[str, Any]:
    """List what `model` may be."""
    ladder = service.ladder
    return {"object": "list", "data": [ladder.listed(name) for name in ladder.names()]}


@models.get("/{model}", response_model=responses.Model, responses=responses.errors({404: "There is no such model."}))
async def retrieve_model(model: str, service: Annotated[Service, Depends(service_of)]) -> dict[str, Any]:
    """Tell of one of them."""
    return service.ladder.listed(model)


def make_app(config: Config, metrics: GatewayMetrics) -> FastAPI:
    """The application for one installation.

    Raises:
        ConfigError: the file of keys cannot be read, an alias stands for nothing, or Kafka's settings cannot work.
    """
    keys = Keys(config.gateway.key_file) if config.gateway.key_file is not None else None
    store = connect(config)
    limits = Limits(config, store, metrics)
    ladder = Ladder(config)
    prefix = f"{config.kafka.topic_prefix}:gateway"
    _check_aliases(ladder)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncClient(config=config) as client:
            calls = Calls(client, config.gateway.max_inflight, metrics)
            files = Files(store, prefix, config.gateway)
            jobs = Jobs(store, prefix, config.gateway.files_kept_s)
            runner = Runner(config, files, jobs, Payer(keys, jobs, limits), metrics)
            live = Live(client)
            app.state.service = Service(
                config=config,
                client=client,
                brokers=Brokers(config),
                calls=calls,
                ladder=ladder,
                limits=limits,
                repeats=Repeats(store, prefix, metrics),
                files=files,
                jobs=jobs,
                runner=runner,
                live=live,
                metrics=metrics,
            )
            running = asyncio.create_task(runner.run())
            yield
            running.cancel()
            await live.close()
            await calls.close()
            await runner.close()
        await store.aclose()

    app = FastAPI(title="Forebay", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, config=config, keys=keys, limits=limits, metrics=metrics)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(ForebayError, _forebay_error)
    app.add_exception_handler(RedisError, _redis_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _defect)
    for router in (chat.router, models, routes.files, routes.batches, health.router, page.router):
        app.include_router(router)
    app.openapi = lambda: _document(app)
    return app


def _check_aliases(ladder: Ladder) -> None:
    for alias, meant in ladder.config.gateway.aliases.items():
        try:
            ladder.tier(meant)
        except ApiError:
            known = ", ".join(ladder.names())
            raise ConfigError(f"gateway.aliases.{alias}: {meant!r} stands for nothing; use one of {known}") from None


async def _api_error(_: Request, error: Any) -> Response:
    return error.response()


async def _forebay_error(_: Request, error: Any) -> Response:
    return api_error(error).response()


async def _redis_error(_: Request, error: Any) -> Response:
    """Of files and batches: all other calls do without Redis, or say themselves what is missing."""
    if isinstance(error, OutOfMemoryError):
        message = "Redis has no room for more files; delete some, or give it more memory (gateway.redis_url)"
        return ApiError(503, message, code="file_storage_exceeded", retry=False).response()
    message = f"Redis, which holds files and batches, does not answer ({type(error).__name__}); send the call again"
    return ApiError(503, message, code="unavailable", retry_after_s=1).response()


async def _invalid(_: Request, error: Any) -> Response:
    return invalid_body(error.errors()).response()


async def _http_error(request: Request, error: Any) -> Response:
    """What routing refuses: a path that does not exist, or a method that it does not have."""
    what = {404: f"{request.url.path} does not exist", 405: f"{request.method} is not a method of {request.url.path}"}
    message = what.get(error.status_code, error.detail)
    return ApiError(error.status_code, f"{message}; /openapi.json tells what there is").response(error.headers)


async def _defect(_: Request, __: Any) -> Response:
    return ApiError(500, "a defect of the gateway met this call; its log says more", code="internal").response()


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: without FastAPI's own status for what does not fit, which is 400 here, and with the key."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version="1", routes=app.routes)
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                if path.startswith("/v1/"):
                    operation["security"] = [{"key": []}]
        document["components"]["securitySchemes"] = _SECURITY
        app.openapi_schema = document
    return app.openapi_schema
