//! Every bound of the service in one place: what a client may send, and how much may wait or be in
//! flight. A queue without a bound is a slow crash, so each has its number here. Relations between
//! bounds are checked by the compiler at the end.

use std::time::Duration;

/// Bytes of a resource's name.
pub const NAME_BYTES_MAX: usize = 256;
/// Tags on one resource.
pub const TAGS_MAX: usize = 64;
/// Bytes of one tag.
pub const TAG_BYTES_MAX: usize = 128;
/// Bytes of one resource's metadata as JSON text.
pub const METADATA_BYTES_MAX: usize = 64 * 1024;
/// Levels of nesting in metadata.
pub const METADATA_DEPTH_MAX: usize = 32;
/// Scalar values in one resource's metadata; each is indexed for `?metadata.<path>=`.
pub const METADATA_VALUES_MAX: usize = 1024;

/// Bytes of a request body.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Bytes of an `X-Request-Id`; a longer one is replaced.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Characters of a problem's detail that may quote what the client sent.
pub const PROBLEM_DETAIL_CHARS_MAX: usize = 300;
/// How long an idempotency key is remembered unless configured otherwise.
pub const IDEMPOTENCY_KEPT_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);
/// The bounds of that configuration.
pub const IDEMPOTENCY_KEPT_MIN: Duration = Duration::from_secs(60);
pub const IDEMPOTENCY_KEPT_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The bounds of how long events are kept.
pub const AUDIT_RETENTION_MIN: Duration = Duration::from_secs(24 * 60 * 60);
pub const AUDIT_RETENTION_MAX: Duration = Duration::from_secs(36_500 * 24 * 60 * 60);
/// Filters (`tag`, `name`, `metadata.<path>`) in one list request.
pub const FILTERS_MAX: usize = 16;
/// Items in one page of a list when the request does not say.
pub const PAGE_LIMIT_DEFAULT: usize = 100;
/// Items in one page of a list at most.
pub const PAGE_LIMIT_MAX: usize = 1000;

/// The shortest IPv4 prefix of a subnet: a /8 holds 2^24 addresses.
pub const IPV4_PREFIX_MIN: u8 = 8;
/// The shortest IPv6 prefix of a subnet: a /32 holds 2^96 addresses.
pub const IPV6_PREFIX_MIN: u8 = 32;
/// Ranges in `excluded` of one subnet.
pub const EXCLUDED_RANGES_MAX: usize = 1024;
/// Subnets of one pool; the pool's actor keeps a record of each.
pub const SUBNETS_PER_POOL_MAX: usize = 16 * 1024;
/// Addresses in one reservation.
pub const RESERVATION_ADDRESSES_MAX: usize = 4096;
/// Reservations asked for with one request.
pub const BULK_REQUESTS_MAX: usize = 1000;
/// Addresses of all the reservations of one request; a commit is bounded by it.
pub const BULK_ADDRESSES_MAX: usize = RESERVATION_ADDRESSES_MAX;
/// Bytes of the answer to a list: each reservation repeats its context.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Ranges in `within` and in `except` of one request.
pub const REQUEST_RANGES_MAX: usize = 256;
/// Bytes of an `affinity`.
pub const AFFINITY_BYTES_MAX: usize = 256;
/// The longest `ttl_seconds`: ten years. An `expires_at` may lie no further ahead.
pub const TTL_SECONDS_MAX: u64 = 10 * 366 * 24 * 60 * 60;
/// The longest `quarantine_seconds`: a year.
pub const QUARANTINE_SECONDS_MAX: u32 = 366 * 24 * 60 * 60;
/// Networks that the subnets of one pool are carved out of.
pub const SUPERNETS_MAX: usize = 64;
/// How often it is looked for reservations whose time is over; they end within two seconds.
pub const EXPIRY_LOOK_EVERY: Duration = Duration::from_millis(250);
/// Reservations that one such look ends together, and their leases, unless a single one has more.
pub const EXPIRY_STEP: usize = 128;
pub const EXPIRY_LEASES_MAX: usize = 4096;
/// How long a look waits for them before it goes on to others.
pub const EXPIRY_WAIT_MAX: Duration = Duration::from_millis(500);
/// Of those that take long or cannot be ended, so many hold up no others.
pub const EXPIRY_STUCK_MAX: usize = 1024;
/// How long after a subnet's use has passed its level it is looked at: what is so then is told.
pub const CROSSING_SETTLES: Duration = Duration::from_millis(250);
/// When one that could not be told of is tried again.
pub const CROSSING_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Subnets that are looked at together.
pub const CROSSINGS_AT_ONCE: usize = 16;
/// Subnets that are looked at or wait for the actor of their pool, all together: a small part of what
/// one actor admits.
pub const CROSSINGS_UNDER_WAY_MAX: usize = ACTOR_IN_FLIGHT_MAX / 8;
/// Subnets named in a refusal, each with what is left of it.
pub const NAMED_SUBNETS_MAX: usize = 32;
/// Leases named in a refusal, so that the answer stays small.
pub const NAMED_LEASES_MAX: usize = 10;

/// Changes in one commit.
pub const BATCH_CHANGES_MAX: usize = 512;
/// Rows (resources, leases, events) written by one commit, unless a single change is larger.
pub const BATCH_ROWS_MAX: usize = 16 * 1024;
/// Changes waiting for the writer.
pub const WRITER_QUEUE_MAX: usize = 8 * 1024;
/// The bounds of how long a change may wait until its client is told.
pub const COMMIT_TIMEOUT_MIN: Duration = Duration::from_millis(100);
pub const COMMIT_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Threads that read from the embedded store, each with a connection of its own.
pub const READER_THREADS: usize = 4;
/// Reads waiting for a thread of the embedded store; further ones wait before they enter.
pub const READ_QUEUE_MAX: usize = 1024;
/// How long reaching a database server may take.
pub const STORE_CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a read of the database may take.
pub const STORE_READ_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a read of the database may take that goes through all of a subnet.
pub const STORE_SCAN_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long making what is missing in the database may take before it is said that one waits.
pub const STORE_PREPARE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Reads by key that run at once, and the keys in one of them; further ones wait to be gathered.
pub const STORE_GATHERED_READS_MAX: usize = 2;
pub const STORE_GATHERED_KEYS_MAX: usize = 256;
pub const STORE_GATHERED_WAITING_MAX: usize = 1024;
/// Connections to one database server.
pub const STORE_CONNECTIONS_MAX: u32 = 64;
/// Bytes that the document of one reservation may grow to by patches.
pub const STORE_RESERVATION_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Requests admitted to one subnet or pool actor and not yet answered.
pub const ACTOR_IN_FLIGHT_MAX: usize = 2 * 1024;
/// How long a request waits for what was handed to the writer before it.
pub const FENCE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Reservations removed by one step of a cascading delete.
pub const CASCADE_CHUNK: usize = 256;
/// Times an unguarded PATCH is tried again when another change came between.
pub const PATCH_ATTEMPTS_MAX: usize = 16;
/// Times a reservation is decided anew when another instance was quicker.
pub const RESERVE_ATTEMPTS_MAX: usize = 64;
/// The longest pause between two of them; it grows by a millisecond each time.
pub const RESERVE_PAUSE_MAX: Duration = Duration::from_millis(10);
/// How often an instance asks what others have committed; memory agrees within a second.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// How long a request waits to hear what others have committed before it goes on without.
pub const FOLLOW_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a refusal waits for subnets to say what is left of them.
pub const SURVEY_WAIT_MAX: Duration = Duration::from_millis(500);
/// Subnets that are compared with the store at once.
pub const FOLLOW_SUBNETS_MAX: usize = 16;
/// How long a request waits for an actor to be loaded or brought to rest.
pub const ACTOR_WAIT_MAX: Duration = Duration::from_secs(5);
/// An actor that nobody asks for between two looks this far apart is dropped; the next request loads
/// it again.
pub const ACTOR_IDLE_LOOK: Duration = Duration::from_secs(10 * 60);

/// How long a snapshot may take to be read. Less than the history that a MongoDB server keeps (five
/// minutes unless configured otherwise); an embedded store's write-ahead log grows for so long.
pub const SNAPSHOT_LASTS_MAX: Duration = Duration::from_secs(4 * 60);
/// Snapshots that are read at once.
pub const SNAPSHOTS_MAX: usize = 4;
/// Resources of a snapshot that are read ahead of whoever takes them.
pub const SNAPSHOT_AHEAD_MAX: usize = 16;
/// Bytes of lines that are sent as one piece, unless a single line is longer.
pub const SNAPSHOT_PIECE_BYTES: usize = 32 * 1024;
/// Event streams that are served at once.
pub const EVENT_STREAMS_MAX: usize = 256;
/// Events that a stream reads at once.
pub const EVENT_STREAM_PAGE: usize = 64;
/// Their bytes, exceeded by one event at most.
pub const EVENT_STREAM_BYTES: usize = 1024 * 1024;
/// After so long without anything to tell, a stream says that it lives.
pub const EVENT_STREAM_QUIET_MAX: Duration = Duration::from_secs(15);
/// Requests for events that wait at once, and how long one may.
pub const EVENT_WAITS_MAX: usize = 1024;
pub const EVENT_WAIT_MAX: Duration = Duration::from_secs(60);
/// Who follows the log looks at it so often at most, however often it is woken, and so often at least:
/// other instances wake nobody here at once.
pub const EVENT_LOOK_PAUSE: Duration = Duration::from_millis(20);
pub const EVENT_LOOK_EVERY: Duration = Duration::from_secs(1);
/// A client that takes nothing of its stream, or of any other answer, for so long is dropped.
pub const STREAM_STALL_MAX: Duration = Duration::from_secs(30);

/// How long a relay stays with an instance that has given no sign of life; others take it over then.
pub const RELAY_CLAIM_LASTS: Duration = Duration::from_secs(5);
/// How often the instance that has a relay gives one, when nothing is published either.
pub const RELAY_SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// How often an instance that has not asks for it.
pub const RELAY_CLAIM_EVERY: Duration = Duration::from_secs(1);
/// Events that a relay reads and publishes at once, and their bytes, exceeded by one event at most.
pub const RELAY_PAGE_EVENTS: usize = 512;
pub const RELAY_PAGE_BYTES: usize = 1024 * 1024;
/// How late an event may be published while a burst needs the processors, unless it is configured; and the
/// most that can be.
pub const PUBLISH_DELAY_MAX_DEFAULT: Duration = Duration::from_secs(10);
pub const PUBLISH_DELAY_MAX_MAX: Duration = Duration::from_secs(60);
/// How often a relay looks for events when it is not woken: those of other instances.
pub const RELAY_LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it notes at most how far it has come; after a crash so much is published again.
pub const RELAY_NOTE_EVERY: Duration = Duration::from_millis(100);
/// How often it is looked how far behind a relay is.
pub const RELAY_LAG_EVERY: Duration = Duration::from_millis(500);
/// The pauses of a relay after failures: the first, and the longest.
pub const RELAY_PAUSE_MIN: Duration = Duration::from_millis(100);
pub const RELAY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a relay waits for a bus that does not keep to [`BUS_WAIT_MAX`].
pub const RELAY_PUBLISH_WAIT_MAX: Duration = Duration::from_secs(15);
/// How long a stop waits until what is left is published, and then until that is noted.
pub const RELAY_STOP_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long a bus may take over what it is asked for, connecting included.
pub const BUS_WAIT_MAX: Duration = Duration::from_secs(10);
/// After a bus could not be reached, questions are not tried for so long.
pub const BUS_ASK_PAUSE: Duration = Duration::from_secs(1);
/// How long connecting to one server of a bus may take.
pub const BUS_CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);
/// Messages that were sent to NATS or RabbitMQ and are not known to be there yet.
pub const NATS_UNACKNOWLEDGED_MAX: usize = 4 * 1024;
pub const AMQP_UNACKNOWLEDGED_MAX: usize = 1024;
/// How long a stream that is made here knows which messages it has: long enough for a call that failed and its
/// repetition. It saves copies, and no promise rests on it. What a server knows of two minutes, its own
/// default, takes a third of its time at a high rate (`BENCHMARKS.md`).
pub const NATS_DUPLICATES_WINDOW: Duration = Duration::from_secs(30);
/// The servers that may keep a stream.
pub const NATS_REPLICAS_MAX: usize = 5;
/// The bounds of how long a stream that is made here keeps messages.
pub const NATS_MAX_AGE_MIN: Duration = Duration::from_secs(60);
pub const NATS_MAX_AGE_MAX: Duration = Duration::from_secs(36_500 * 24 * 60 * 60);

/// Hooks that can be configured.
pub const HOOKS_MAX: usize = 64;
/// Bytes of a hook's name.
pub const HOOK_NAME_BYTES_MAX: usize = 64;
/// Bytes of a hook's subject; the name of a queue has no more.
pub const HOOK_SUBJECT_BYTES_MAX: usize = 255;
/// The longest time that a hook may be given to answer.
pub const HOOK_DEADLINE_MAX: Duration = Duration::from_secs(3);
/// How long all the hooks of one change may take together. What a reservation holds meanwhile is
/// waited for when a subnet is brought to rest.
pub const HOOKS_WAIT_MAX: Duration = Duration::from_secs(4);
/// Changes that wait for hooks; each hook has an equal share. So many permits of an actor stay for
/// requests that no hook is asked about.
pub const HOOK_CHANGES_MAX: usize = ACTOR_IN_FLIGHT_MAX / 2;
/// Of a list of reservations, so many are asked about at once.
pub const HOOK_QUESTIONS_AT_ONCE: usize = 16;
/// Bytes of a hook's answer.
pub const HOOK_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Characters of a hook's reason that a client is told.
pub const HOOK_REASON_CHARS_MAX: usize = 300;

/// Requests over NATS that are worked on at once; further ones are refused.
pub const NATS_API_REQUESTS_MAX: usize = 1024;
/// Requests of one subject that have come and were not looked at; they are refused as quickly as they
/// are read, so this is what the smallest delay may gather.
pub const NATS_API_QUEUE_MAX: usize = 4 * 1024;
/// Answers that wait to be sent, also while NATS is away.
pub const NATS_API_UNSENT_MAX: usize = 2 * 1024;
/// Bytes that are left to the headers of an answer, of what NATS carries in one message.
pub const NATS_API_HEADERS_ROOM: usize = 1024;
/// How long an answer may wait to be handed on.
pub const NATS_API_SEND_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a stop takes in what has come before the subscriptions end.
pub const NATS_API_CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);
/// The pauses between attempts to connect: the first, and the longest.
pub const NATS_API_PAUSE_MIN: Duration = Duration::from_millis(100);
pub const NATS_API_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Attempts to come back to servers that a catalogue named, until it is asked again which there are.
pub const NATS_API_RECONNECTS_MAX: usize = 32;

/// How long a question to Consul may take beyond what it was asked to wait for a change.
pub const CONSUL_ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long connecting to its agent may take.
pub const CONSUL_CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a question waits at the agent for a change of the catalogue. One that does not know the
/// other end to be gone asks again after this.
pub const CONSUL_CHANGE_WAIT: Duration = Duration::from_secs(30);
/// Bytes of an answer of Consul's.
pub const CONSUL_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The catalogue is asked so often at most, however often it changes.
pub const CONSUL_ASK_PAUSE: Duration = Duration::from_millis(200);
/// The pauses after a question that failed: the first, and the longest.
pub const CONSUL_PAUSE_MIN: Duration = Duration::from_millis(200);
pub const CONSUL_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether the agent still knows this instance.
pub const CONSUL_LOOK_EVERY: Duration = Duration::from_secs(3);
/// How long a stop tries to take this instance out of the catalogue.
pub const CONSUL_LEAVE_WAIT_MAX: Duration = Duration::from_secs(3);
/// The bounds of how often Consul checks this instance.
pub const CONSUL_CHECK_INTERVAL_MIN: Duration = Duration::from_secs(1);
pub const CONSUL_CHECK_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a check may take: longer than the service looks for its store and its writer.
pub const CONSUL_CHECK_WAIT_MAX: Duration = Duration::from_secs(5);
/// The bounds of how long an instance may be critical until it is removed; Consul's own least is a
/// minute.
pub const CONSUL_DEREGISTER_AFTER_MIN: Duration = Duration::from_secs(60);
pub const CONSUL_DEREGISTER_AFTER_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Tags of this instance in Consul.
pub const CONSUL_TAGS_MAX: usize = 64;

/// When a catalogue names other servers of the store, so many failures in a row, with such pauses
/// between, say that it is no longer where it was. One that is asked in vain takes 2 s to fail, so that is
/// about 17 s: an ordinary election, of 10 s and some, is over by then.
pub const STORE_MOVED_FAILURES: u32 = 6;
pub const STORE_MOVED_LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long leaving a store that has moved takes at most, for what is under way there.
pub const STORE_LEAVE_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long `ipam health` waits; more than `/health/ready` takes over a store that does not answer.
pub const HEALTH_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often `ipam initiate` looks at a server that is not as it shall be yet.
pub const INITIATE_LOOK_EVERY: Duration = Duration::from_millis(200);

/// Threads that serve HTTP.
pub const WORKERS_MAX: usize = 512;
/// Connections that are served at once, over all workers; others wait in the backlog.
pub const CONNECTIONS_MAX: usize = 16 * 1024;
/// Connections that the kernel completes before they are accepted.
pub const LISTEN_BACKLOG: u32 = 1024;
/// How long a connection may idle between requests; above the 60 s of common load balancers, so
/// that they are the ones who close.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may take to send the head of a request.
pub const REQUEST_HEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to close a connection.
pub const DISCONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a stop waits for the answers that are owed, and then for the last commit.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(30);

/// Bits in one page of a bitmap.
pub const PAGE_BITS: u128 = 4096;

const _: () = assert!(BUS_CONNECT_WAIT_MAX.as_millis() < BUS_WAIT_MAX.as_millis());
const _: () = assert!(CONSUL_PAUSE_MIN.as_millis() < CONSUL_PAUSE_MAX.as_millis());
const _: () = assert!(RESERVATION_ADDRESSES_MAX < BATCH_ROWS_MAX);
const _: () = assert!(BULK_ADDRESSES_MAX + BULK_REQUESTS_MAX * 2 < BATCH_ROWS_MAX);
const _: () = assert!(BULK_REQUESTS_MAX <= BULK_ADDRESSES_MAX);
const _: () = assert!(EXPIRY_STEP <= BATCH_CHANGES_MAX && EXPIRY_STEP < EXPIRY_STUCK_MAX);
const _: () = assert!(BATCH_CHANGES_MAX <= WRITER_QUEUE_MAX);
const _: () = assert!(CASCADE_CHUNK <= BATCH_CHANGES_MAX);
const _: () = assert!(CASCADE_CHUNK <= PAGE_LIMIT_MAX);
const _: () = assert!(FOLLOW_EVERY.as_millis() < FOLLOW_WAIT_MAX.as_millis());
const _: () = assert!(RELAY_NOTE_EVERY.as_millis() < RELAY_SIGN_OF_LIFE.as_millis());
const _: () = assert!(RELAY_SIGN_OF_LIFE.as_millis() * 3 < RELAY_CLAIM_LASTS.as_millis());
const _: () = assert!(BUS_WAIT_MAX.as_millis() < RELAY_PUBLISH_WAIT_MAX.as_millis());
const _: () = assert!(
    NATS_DUPLICATES_WINDOW.as_millis() > BUS_WAIT_MAX.as_millis() * 2 + RELAY_PAUSE_MAX.as_millis()
);
const _: () = assert!(HOOKS_MAX <= HOOK_CHANGES_MAX && HOOK_CHANGES_MAX < ACTOR_IN_FLIGHT_MAX);
const _: () = assert!(HOOK_DEADLINE_MAX.as_millis() < HOOKS_WAIT_MAX.as_millis());
const _: () = assert!(HOOKS_WAIT_MAX.as_millis() < ACTOR_WAIT_MAX.as_millis());
const _: () = assert!(PAGE_LIMIT_DEFAULT <= PAGE_LIMIT_MAX);
const _: () = assert!(WORKERS_MAX <= CONNECTIONS_MAX);
const _: () = assert!(EVENT_STREAM_PAGE <= PAGE_LIMIT_MAX);
const _: () = assert!(EVENT_LOOK_PAUSE.as_millis() < EVENT_LOOK_EVERY.as_millis());
const _: () = assert!(METADATA_BYTES_MAX < BODY_BYTES_MAX);
const _: () = assert!(PAGE_BITS.is_power_of_two() && PAGE_BITS <= 1 << u16::BITS);
