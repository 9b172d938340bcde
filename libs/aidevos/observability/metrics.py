"""The metrics of the product. The table in `docs/operations/metrics.md` is made of these declarations.

Promise: the values of labels are names from code or configuration, such as types, methods, routes and codes. They are
never IDs.
"""

from __future__ import annotations

from aidevos.observability.instruments import LONG_SECONDS, Counter, Gauge, Histogram, Reading

# Requests over HTTP
HTTP_REQUESTS = Counter("aidevos_http_requests_total", "HTTP requests answered", ["method", "route", "status"])
HTTP_SECONDS = Histogram("aidevos_http_seconds", "Time from a request's headers to its response", ["route"])
SSE_READERS = Reading("aidevos_sse_readers", "Open streams of live events")

# Requests to objects
PENDING_REQUESTS = Reading("aidevos_pending_requests", "Requests to objects that are not answered yet")
MAILBOX_WAIT = Histogram(
    "aidevos_mailbox_wait_seconds", "Time from a request's arrival at its object to its turn", ["type"]
)
TURN_SECONDS = Histogram(
    "aidevos_turn_seconds",
    "Time of a turn, from its method's start to its end. The outcome is `ok`, `refused` (an error that the method "
    "raised for its caller), `stopped` (by a time limit or because the object moved) or `failed`",
    ["type", "method", "outcome"],
)
FAILURES = Counter(
    "aidevos_failures_total", "Requests refused or failed, over `http` or `nats`, by error code", ["door", "code"]
)
SEARCH_SECONDS = Histogram("aidevos_search_seconds", "Time of a list, search or view", ["type", "name"])

# Objects
ACTIVE_OBJECTS = Reading("aidevos_active_objects", "Objects in memory", ["type"])
ACTIVE_BYTES = Reading("aidevos_active_bytes", "Approximate memory of the objects in memory", ["type"])
ACTIVATIONS = Counter("aidevos_activations_total", "Objects loaded into memory to run commands", ["type"])
HIBERNATIONS = Counter("aidevos_hibernations_total", "Objects that left memory because they were idle", ["type"])

# Commits
COMMIT_SECONDS = Histogram("aidevos_commit_seconds", "Time of one bulk write of commits")
COMMIT_BATCH_SIZE = Histogram(
    "aidevos_commit_batch_size", "Commits in one bulk write", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 500)
)
COMMIT_BYTES = Histogram(
    "aidevos_commit_bytes", "Approximate bytes of one bulk write", buckets=[float(4**power) for power in range(5, 14)]
)
COMMITS = Counter(
    "aidevos_commits_total",
    "Commits of objects: `written`, `fenced` by a newer owner, `exists` (a new object that existed already; its "
    "requests run again), `unknown` (resolved by a new claim) or `failed` before they were sent",
    ["type", "outcome"],
)

# Hosts
LOOP_LAG = Histogram("aidevos_loop_lag_seconds", "Delay of a timer of the event loop, which fires twice a second")
LEASE_LAPSES = Counter("aidevos_lease_lapses_total", "Leases that ended while their host was serving")
LEASE_AGE = Reading("aidevos_lease_age_seconds", "Time since the lease's last renewal", greatest=True)
PARTITIONS_OWNED = Reading("aidevos_partitions_owned", "Partitions that this host owns", ["type"])
PARTITIONS_MOVED = Counter("aidevos_partitions_moved_total", "Partitions that this host took over", ["type"])
DROPPED_PLACEMENT_EVENTS = Counter(
    "aidevos_dropped_placement_events_total", "Events about hosts and partitions that could not be published"
)

# Messages
OUTBOX_ENTRIES = Reading("aidevos_outbox_entries", "Events and tells of objects in memory that wait", ["type"])
OUTBOX_OLDEST = Reading(
    "aidevos_outbox_oldest_seconds", "Age of the oldest event or tell that waits", ["type"], greatest=True
)
EVENTS = Counter(
    "aidevos_events_total", "Attempts to publish events: `published`, or `failed` and tried again", ["outcome"]
)
EVENT_LAG = Histogram(
    "aidevos_event_lag_seconds", "Time from an event's turn until the bus has stored it", buckets=LONG_SECONDS
)
REACTIONS = Counter(
    "aidevos_reactions_total", "Attempts to react to events: `done`, or `failed`", ["type", "method", "outcome"]
)
TELLS = Counter(
    "aidevos_tells_total",
    "Attempts to apply tells: `done`, `failed` and tried again, or `buried` as a dead letter",
    ["type", "method", "outcome"],
)
TELL_LAG = Histogram("aidevos_tell_lag_seconds", "Time from a tell until it was applied", buckets=LONG_SECONDS)
REFUSED_TELLS = Counter("aidevos_refused_tells_total", "Tells that were refused without a valid credential")
ALARMS = Counter(
    "aidevos_alarms_total",
    "Alarms that `fired`, `failed` and are tried again, were `skipped` as too late, or `buried` as a dead letter",
    ["outcome"],
)
ALARM_LATENESS = Histogram(
    "aidevos_alarm_lateness_seconds", "Time from when an alarm was due to its turn", buckets=LONG_SECONDS
)
ALARMS_WAITING = Reading("aidevos_alarms_waiting", "Objects with alarms that are due or due soon")
DEAD_LETTERS = Counter("aidevos_dead_letters_total", "Messages that became dead letters", ["kind"])

# Limits and accounts
REFUSED_REQUESTS = Counter(
    "aidevos_refused_requests_total",
    "Requests past a limit: the name of a rate limit's policy, `key` or `route` (the own limit of an API key or of a "
    "declared route), `host` (requests that wait in a process), `mailbox` (for one object), `streams` (live events) or "
    "`hashing` (of passwords)",
    ["limit"],
)
UNLIMITED_REQUESTS = Counter(
    "aidevos_unlimited_requests_total", "Requests admitted because their rate limit could not be checked"
)
LOGINS = Counter(
    "aidevos_logins_total",
    "Logins: `ok`, `mfa` (the second factor is missing), `wrong` (name, password or code), `throttled`, or `failed` "
    "(for example because too many passwords are hashed)",
    ["outcome"],
)
HASHING_QUEUE = Reading("aidevos_hashing_queue", "Passwords that are being hashed or wait for it")

# Webhooks and tasks
WEBHOOK_DELIVERIES = Counter(
    "aidevos_webhook_deliveries_total",
    "Attempts to deliver events to webhooks: `delivered`, `failed` and tried again, or `given_up`",
    ["outcome"],
)
WEBHOOK_SECONDS = Histogram("aidevos_webhook_seconds", "Time of a webhook's receiver to respond")
TASKS_QUEUED = Gauge("aidevos_tasks_queued", "Tasks that could run and wait for a worker, up to 10,000 of each kind")
TASKS_RUNNING = Reading("aidevos_tasks_running", "Tasks that this worker runs")
TASK_SECONDS = Histogram(
    "aidevos_task_seconds",
    "Time of one attempt at a task: `done`, `failed`, `timeout`, or `stopped` (cancelled or given back)",
    ["task", "outcome"],
    buckets=LONG_SECONDS,
)

# The process
PROCESS_INFO = Gauge("aidevos_process_info", "This process; the value is 1", ["service", "replica", "version"])
PROCESS_DEATHS = Counter(
    "aidevos_process_deaths_total", "Processes of a service or a server that ended unexpectedly", ["service"]
)


class _Measuring:
    """`on` is True if each request and turn is measured; `AIDEVOS_METRICS_PORT=0` ends that."""

    on = True


measuring = _Measuring()
