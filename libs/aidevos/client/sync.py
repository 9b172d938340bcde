"""The client for programs without an event loop: each method waits for the asynchronous one, which runs in a thread.

The thread is the client's own. Several threads of a program may share one client.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from aidevos.client.auth import Auth, KeepTokens
from aidevos.client.client import DEADLINE, Client, connect
from aidevos.client.credentials import TokenSource
from aidevos.client.data import Collection, Data
from aidevos.client.projects import Projects, Tasks
from aidevos.client.users import Users
from aidevos.contracts.authentication import TokenPair
from aidevos.durable.base.loop_thread import LoopThread

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_END = object()


class _Facade:
    """An asynchronous object, and the thread in which it runs."""

    def __init__(self, thread: LoopThread, of: Any) -> None:
        self._thread = thread
        self._of = of


class _Method(Generic[P, R]):
    """A method that waits for the asynchronous one of the same name."""

    def __init__(self, method: Callable[Concatenate[Any, P], Awaitable[R]]) -> None:
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type[_Facade], name: str) -> None:
        self._name = name

    def __get__(self, instance: _Facade, owner: type[_Facade]) -> Callable[P, R]:
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            result: R = instance._thread.wait(getattr(instance._of, self._name)(*args, **kwargs))
            return result

        return call


class _Iteration(Generic[P, R]):
    """A method that iterates over what the asynchronous one of the same name yields."""

    def __init__(self, method: Callable[Concatenate[Any, P], AsyncIterator[R]]) -> None:
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type[_Facade], name: str) -> None:
        self._name = name

    def __get__(self, instance: _Facade, owner: type[_Facade]) -> Callable[P, Generator[R, None, None]]:
        def iterate(*args: P.args, **kwargs: P.kwargs) -> Generator[R, None, None]:
            source = getattr(instance._of, self._name)(*args, **kwargs)

            async def step() -> Any:
                return await anext(source, _END)

            async def close() -> None:
                await source.aclose()

            while (item := instance._thread.wait(step())) is not _END:
                try:
                    yield item
                except GeneratorExit:
                    instance._thread.wait(close())
                    raise

        return iterate


class SyncAuth(_Facade):
    """`Auth`, whose methods wait."""

    _of: Auth
    register = _Method(Auth.register)
    login = _Method(Auth.login)
    verify = _Method(Auth.verify)
    refresh = _Method(Auth.refresh)
    logout = _Method(Auth.logout)
    me = _Method(Auth.me)
    sessions = _Method(Auth.sessions)
    change_password = _Method(Auth.change_password)
    begin_totp = _Method(Auth.begin_totp)
    confirm_totp = _Method(Auth.confirm_totp)
    disable_totp = _Method(Auth.disable_totp)

    @property
    def session(self) -> TokenPair | None:
        """The tokens of the session, or None if the client has no login of its own."""
        return self._of.session

    @property
    def keep(self) -> KeepTokens:
        """The function that gets each new pair of tokens. It runs in the client's thread."""
        return self._of.keep

    @keep.setter
    def keep(self, keep: KeepTokens) -> None:
        self._of.keep = keep

    def resume(self, pair: TokenPair) -> None:
        """Continue a session with tokens that `keep` or `session` gave."""
        self._of.resume(pair)


class SyncCollection(_Facade, Generic[T]):
    """`Collection`, whose methods wait."""

    _of: Collection[T]
    create = _Method(Collection[T].create)
    get = _Method(Collection[T].get)
    put = _Method(Collection[T].put)
    patch = _Method(Collection[T].patch)
    delete = _Method(Collection[T].delete)
    find = _Iteration(Collection[T].find)
    count = _Method(Collection[T].count)
    history = _Iteration(Collection[T].history)
    restore = _Method(Collection[T].restore)
    configure = _Method(Collection[T].configure)
    config = _Method(Collection[T].config)
    drop = _Method(Collection[T].drop)

    @property
    def name(self) -> str:
        """The name of the collection."""
        return self._of.name


class SyncData(_Facade):
    """`Data`, whose methods wait."""

    _of: Data
    collections = _Iteration(Data.collections)

    @overload
    def collection(self, name: str) -> SyncCollection[Any]: ...
    @overload
    def collection(self, name: str, shape: type[T]) -> SyncCollection[T]: ...
    def collection(self, name: str, shape: Any = Any) -> SyncCollection[Any]:
        """Return a collection, whose documents have this type. Nothing is sent."""
        return SyncCollection(self._thread, self._of.collection(name, shape))


class SyncProjects(_Facade):
    """`Projects`, whose methods wait."""

    create = _Method(Projects.create)
    get = _Method(Projects.get)
    find = _Iteration(Projects.find)
    patch = _Method(Projects.patch)
    delete = _Method(Projects.delete)
    members = _Method(Projects.members)
    set_member = _Method(Projects.set_member)
    remove_member = _Method(Projects.remove_member)


class SyncTasks(_Facade):
    """`Tasks`, whose methods wait."""

    create = _Method(Tasks.create)
    get = _Method(Tasks.get)
    find = _Iteration(Tasks.find)
    wait = _Method(Tasks.wait)
    progress = _Iteration(Tasks.progress)
    patch = _Method(Tasks.patch)
    cancel = _Method(Tasks.cancel)
    retry = _Method(Tasks.retry)
    delete = _Method(Tasks.delete)


class SyncUsers(_Facade):
    """`Users`, whose methods wait."""

    get = _Method(Users.get)
    find = _Iteration(Users.find)
    patch = _Method(Users.patch)
    activate = _Method(Users.activate)
    deactivate = _Method(Users.deactivate)
    end_sessions = _Method(Users.end_sessions)
    erase = _Method(Users.erase)


class SyncObject(_Facade):
    """A reference to an object, whose methods wait and return the result.

    Python can't express the type of a class whose methods wait, so `client.object(Counter, "clicks").increment(by=2)`
    has the type Any. `client.object(Counter, "clicks").call(Counter.increment, by=2)` is the same call, and typed.
    """

    def call(self, method: Callable[Concatenate[Any, P], Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a method of the object's class."""
        result: R = self._thread.wait(getattr(self._of, method.__name__)(*args, **kwargs))
        return result

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._of, name)
        return lambda *args, **kwargs: self._thread.wait(method(*args, **kwargs))


class SyncClient(_Facade):
    """A fleet. `connect_sync` opens it. All methods raise `ApiError`."""

    _of: Client
    events = _Iteration(Client.events)

    def __init__(self, thread: LoopThread, of: Client) -> None:
        super().__init__(thread, of)
        self.auth = SyncAuth(thread, of.auth)
        self.data = SyncData(thread, of.data)
        self.projects = SyncProjects(thread, of.projects)
        self.tasks = SyncTasks(thread, of.tasks)
        self.users = SyncUsers(thread, of.users)

    def object(
        self,
        target: str | type[Any],
        id: str,
        /,
        *,
        deadline: float | None = None,
        request_id: str | None = None,
        if_match: int | None = None,
    ) -> SyncObject:
        """Return a reference to an object, as `Client.object` does. Nothing is sent."""
        options: dict[str, Any] = {"deadline": deadline, "request_id": request_id, "if_match": if_match}
        return SyncObject(self._thread, self._of.object(target, id, **options))


@contextmanager
def connect_sync(
    url: str,
    *,
    token: str | TokenSource | None = None,
    user: str | None = None,
    password: str | None = None,
    deadline: float = DEADLINE,
    tls: ssl.SSLContext | None = None,
) -> Iterator[SyncClient]:
    """Open the client of a fleet for a program without an event loop. The arguments are those of `connect`."""
    thread = LoopThread("aidevos-client")
    opening = connect(url, token=token, user=user, password=password, deadline=deadline, tls=tls)
    try:
        client = thread.wait(opening.__aenter__())
        try:
            yield SyncClient(thread, client)
        finally:
            thread.wait(opening.__aexit__(None, None, None))
    finally:
        thread.close()
