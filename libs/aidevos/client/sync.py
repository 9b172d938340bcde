"""The client for programs without an event loop: each method waits for the asynchronous one, which runs in a thread.

The thread is the client's own. Several threads of a program may share one client.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from aidevos.client.auth import Auth, KeepTokens
from aidevos.client.client import DEADLINE, Client, connect
from aidevos.client.credentials import TokenSource
from aidevos.client.data import Collection, Data, Item
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

    def _iterate(self, source: AsyncGenerator[R, None]) -> Generator[R, None, None]:
        """Yield what an asynchronous generator yields, and close it with this one."""

        async def step() -> Any:
            return await anext(source, _END)

        while (item := self._thread.wait(step())) is not _END:
            try:
                yield item
            except GeneratorExit:
                self._thread.wait(source.aclose())
                raise


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
            return instance._iterate(getattr(instance._of, self._name)(*args, **kwargs))

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
    """`Collection`, whose methods wait.

    Those that take or return documents are written out: pyright loses the type `T` where `_Method` derives it.
    """

    _of: Collection[T]
    delete = _Method(Collection.delete)
    count = _Method(Collection.count)
    history = _Iteration(Collection.history)
    configure = _Method(Collection.configure)
    config = _Method(Collection.config)
    drop = _Method(Collection.drop)

    def create(self, data: T, *, id: str | None = None) -> Item[T]:
        """Create an item, by default with a new ID. Raises `Conflict` if there is one with this ID."""
        return self._thread.wait(self._of.create(data, id=id))

    def get(self, id: str, *, version: int | None = None) -> Item[T]:
        """Return an item, or an earlier version of it. Raises `NotFound`."""
        return self._thread.wait(self._of.get(id, version=version))

    def put(self, id: str, data: T, *, if_match: int | None = None) -> Item[T]:
        """Replace the data of an item. Raises `NotFound`."""
        return self._thread.wait(self._of.put(id, data, if_match=if_match))

    def patch(
        self, id: str, patch: Mapping[str, Any] | list[dict[str, Any]], *, if_match: int | None = None
    ) -> Item[T]:
        """Change an item by a merge patch (RFC 7396), or by a list of operations of a JSON patch (RFC 6902)."""
        return self._thread.wait(self._of.patch(id, patch, if_match=if_match))

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | list[str] | None = None,
        fields: str | list[str] | None = None,
        page_size: int = 50,
    ) -> Generator[Item[T], None, None]:
        """Yield all items that match a filter and that the caller may read, as `Collection.find` does."""
        return self._iterate(self._of.find(filter, sort=sort, fields=fields, page_size=page_size))

    def restore(self, id: str, version: int, *, if_match: int | None = None) -> Item[T]:
        """Give an item the data of an earlier version, also after its deletion."""
        return self._thread.wait(self._of.restore(id, version, if_match=if_match))

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
    """A reference to an object, whose methods wait and return the result."""

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

    @overload
    def object(
        self,
        target: type[T],
        id: str,
        /,
        *,
        deadline: float | None = None,
        request_id: str | None = None,
        if_match: int | None = None,
    ) -> type[T]: ...
    @overload
    def object(
        self,
        target: str,
        id: str,
        /,
        *,
        deadline: float | None = None,
        request_id: str | None = None,
        if_match: int | None = None,
    ) -> Any: ...
    def object(
        self,
        target: str | type[Any],
        id: str,
        /,
        *,
        deadline: float | None = None,
        request_id: str | None = None,
        if_match: int | None = None,
    ) -> Any:
        """Return a reference to an object: `client.object(Counter, "clicks").increment(by=2)`. Nothing is sent.

        It is as that of `Client.object`, but its methods wait and return the result. To a type checker it is the class
        itself, of which commands and queries are declared as methods that wait.
        """
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
