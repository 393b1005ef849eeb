//! Two ipam containers on a replica set of three members, each a container, on networks that are cut:
//! between one ipam and the primary, then between the primary and the other members. The invariants hold.
//!
//! One ipam is in the network of the members. The other reaches each member over a network of their own,
//! which ends when it is cut; so a cut parts these two and nobody else.

use std::net::SocketAddr;
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;

use crate::burst::Burst;
use crate::engine::{Container, PATIENCE, Scope, docker, until, within};
use crate::images;
use crate::judge::{holds, is_ready, new_pool, ready, reservations, snapshot};

const MEMBERS: usize = 3;
/// The primary, and no other may become it until the second cut.
const FIRST: usize = 0;
/// A primary is not missed sooner: on a busy machine an election would come by itself, and with it requests
/// that are told to come again.
const CALM: Duration = Duration::from_secs(30);
const URI: &str = "mongodb://m0,m1,m2/?replicaSet=rs0";

struct World {
    scope: Scope,
    members: Vec<Container>,
    /// The one whose ways are cut, and the one that is beside the members.
    apart: Container,
    beside: Container,
}

impl World {
    async fn new(scope: Scope) -> Self {
        let image = images::ipam();
        let members_net = scope.named("members");
        docker(["network", "create", &members_net]);
        let front = scope.named("front");
        docker(["network", "create", &front]);
        let mut members = Vec::new();
        for number in 0..MEMBERS {
            let (name, alias) = (scope.named(&format!("m{number}")), format!("m{number}"));
            let run = ["run", "--detach", "--name", &name, "--network", &members_net];
            let alias = ["--network-alias", &alias, "mongo:6.0"];
            let mongod = ["mongod", "--replSet", "rs0", "--bind_ip_all", "--oplogSize", "256"];
            docker([&run[..], &alias, &mongod].concat());
            // No way leads out of it, so the port of ipam is published in its own network.
            docker(["network", "create", "--internal", &way(&scope, number)]);
            members.push(Container(name));
        }
        let apart = Container(scope.named("apart"));
        let beside = Container(scope.named("beside"));
        for (container, network) in [(&apart, &front), (&beside, &members_net)] {
            let create = ["create", "--name", &container.0, "--network", network];
            let port = ["--publish", "127.0.0.1::8000"];
            let mongo = format!("IPAM_MONGO={URI}");
            // Shorter than an election, so that clients hear of it.
            let settings = ["--env", &mongo, "--env", "IPAM_COMMIT_TIMEOUT=1s", image];
            docker([&create[..], &port, &settings].concat());
        }
        let world = Self { scope, members, apart, beside };
        for number in 0..MEMBERS {
            docker(["network", "connect", &way(&world.scope, number), &world.apart.0]);
            world.open_way(number);
        }
        world.initiate().await;
        for container in [&world.apart, &world.beside] {
            container.start();
        }
        world
    }

    /// The ways of the one apart, between it and a member.
    fn open_way(&self, member: usize) {
        self.connect(&way(&self.scope, member), member);
    }

    fn cut_way(&self, member: usize) {
        docker(["network", "disconnect", &way(&self.scope, member), &self.members[member].0]);
    }

    /// The ways between a member and the others, and the one beside.
    fn open_set(&self, member: usize) {
        self.connect(&self.scope.named("members"), member);
    }

    fn cut_set(&self, member: usize) {
        docker(["network", "disconnect", &self.scope.named("members"), &self.members[member].0]);
    }

    fn connect(&self, network: &str, member: usize) {
        let alias = format!("m{member}");
        docker(["network", "connect", "--alias", &alias, network, &self.members[member].0]);
    }

    async fn initiate(&self) {
        let config = config(1, &[1, 0, 0], Duration::from_secs(1));
        let what = "the replica set is initiated";
        until(what, async || {
            self.command(FIRST, doc! { "replSetInitiate": config.clone() }).await.is_some()
        })
        .await;
    }

    /// From now on each may become the primary, and a primary is missed after so long.
    async fn elects(&self, primary: usize, version: i32, missed: Duration) {
        let config = config(version, &[1, 1, 1], missed);
        until("the replica set is configured anew", async || {
            self.command(primary, doc! { "replSetReconfig": config.clone() }).await.is_some()
        })
        .await;
    }

    /// A command for one member, whatever its state; none when it does not answer or refuses.
    async fn command(&self, member: usize, command: Document) -> Option<Document> {
        let uri = format!("mongodb://{}/?directConnection=true", self.members[member].ip());
        let mut options = ClientOptions::parse(&uri).await.ok()?;
        options.server_selection_timeout = Some(Duration::from_secs(2));
        options.connect_timeout = Some(Duration::from_secs(1));
        let client = Client::with_options(options).ok()?;
        client.database("admin").run_command(command).await.ok()
    }

    async fn is(&self, member: usize, state: &str) -> bool {
        let hello = self.command(member, doc! { "hello": 1 }).await;
        hello.is_some_and(|hello| hello.get_bool(state).unwrap_or_default())
    }

    /// The member that took over.
    async fn primary_but_first(&self) -> usize {
        let ask = async || {
            for member in (0..MEMBERS).filter(|member| *member != FIRST) {
                if self.is(member, "isWritablePrimary").await {
                    return Some(member);
                }
            }
            None
        };
        within(PATIENCE, "another takes over", ask).await.1
    }
}

fn config(version: i32, priorities: &[i32; MEMBERS], missed: Duration) -> Document {
    let member = |number: usize, priority: i32| {
        doc! { "_id": number as i32, "host": format!("m{number}:27017"), "priority": priority }
    };
    let members: Vec<Document> =
        priorities.iter().enumerate().map(|(number, priority)| member(number, *priority)).collect();
    let settings = doc! {
        "electionTimeoutMillis": missed.as_millis() as i64,
        "heartbeatIntervalMillis": 200,
        "heartbeatTimeoutSecs": 1,
    };
    doc! { "_id": "rs0", "version": version, "members": members, "settings": settings }
}

fn way(scope: &Scope, member: usize) -> String {
    scope.named(&format!("way{member}"))
}

fn published(container: &Container) -> SocketAddr {
    docker(["port", &container.0, "8000/tcp"]).parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_invariants_hold_when_networks_are_cut() {
    let Some(scope) = Scope::enter("partition").await else { return };
    let world = World::new(scope).await;
    let (apart, beside) = (published(&world.apart), published(&world.beside));
    for server in [apart, beside] {
        is_ready("both are ready", server).await;
    }
    let pool = new_pool(beside).await;
    let burst = Burst::begin("cut", &[apart, beside], &pool);
    burst.more(300).await;

    // One ipam loses the primary, which nobody else does.
    world.cut_way(FIRST);
    let noticed = until("the one apart is not ready", async || ready(apart).await.is_none()).await;
    is_ready("the one beside is not concerned", beside).await;
    burst.more(300).await;
    assert!(ready(apart).await.is_none(), "it is still cut off");
    world.open_way(FIRST);
    let healed = is_ready("the one apart is ready again", apart).await;
    println!(
        "an ipam was cut off: noticed in {noticed:.1?}, ready {healed:.1?} after it was healed"
    );
    burst.more(300).await;

    // The primary loses the other members and the one beside. The one apart reaches both sides.
    world.elects(FIRST, 2, Duration::from_secs(1)).await;
    let again = burst.again();
    world.cut_set(FIRST);
    let other = world.primary_but_first().await;
    burst.more(300).await;
    world.open_set(FIRST);
    let what = "the former primary follows";
    let healed = until(what, async || world.is(FIRST, "secondary").await).await;
    println!(
        "the primary was cut off: {} tries came again, m{other} took over; it followed {healed:.1?} after \
         it was healed",
        burst.again() - again
    );
    world.elects(other, 3, CALM).await;
    burst.more(300).await;

    let told = burst.end().await;
    for server in [apart, beside] {
        is_ready("both are ready", server).await;
        holds(server, &pool, &told).await;
    }
    assert_eq!(reservations(apart, &pool).await, reservations(beside, &pool).await);
    assert_eq!(snapshot(apart).await.settled(), snapshot(beside).await.settled());
    println!("{} reservations were acknowledged by two", told.len());
    for container in [&world.apart, &world.beside] {
        container.stop();
    }
    let mongo = ["check", "--mongo", URI];
    let run = ["run", "--rm", "--network", &world.scope.named("members"), images::ipam()];
    let checked = docker([&run[..], &mongo].concat());
    assert!(checked.contains("every invariant holds"), "{checked}");
}
