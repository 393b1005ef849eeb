//! A proxy before mongod that reads enough of the protocol to know the commands of a transaction, and
//! fails at the one it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mongodb::bson::RawDocument;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing goes through it any more, either way.
    Stall,
    /// It is reset.
    Reset,
    /// One message is lost and all else goes through.
    Swallow,
}

/// Which message is met by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The command, before the server has it.
    Command,
    /// Its reply, when the server has carried it out.
    Reply,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The number of the command within its transaction.
    pub step: usize,
    pub place: Place,
    pub fault: Fault,
}

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    fired: Notify,
}

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    /// The commands of the transaction that was begun last.
    commands: Vec<String>,
}

impl Proxy {
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let of_task = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&of_task);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(server).await {
                        forward(client, server, &shared).await;
                    }
                });
            }
        });
        Self { address, shared, accepting: accepting.abort_handle() }
    }

    /// A connection string that leads through it, and nowhere else.
    pub fn uri(&self) -> String {
        format!("mongodb://{}/?directConnection=true", self.address)
    }

    /// Fails once, as planned, in the next transaction that has such a step.
    pub fn arm(&self, plan: Plan) {
        self.shared.state.lock().unwrap().plan = Some(plan);
    }

    /// It has not failed yet as it was told to; then it will not.
    pub fn disarm(&self) -> bool {
        self.shared.state.lock().unwrap().plan.take().is_some()
    }

    /// Waits until it fails as it was told to.
    pub async fn has_fired(&self) {
        self.shared.fired.notified().await;
    }

    /// The commands of the last transaction.
    pub fn commands(&self) -> Vec<String> {
        self.shared.state.lock().unwrap().commands.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Notes a command; answers what is to become of it.
    fn meet(&self, command: &Command) -> Option<Plan> {
        let mut state = self.state.lock().unwrap();
        if command.begins {
            state.commands.clear();
        }
        let step = state.commands.len();
        state.commands.push(command.what.clone());
        state.plan.take_if(|plan| plan.step == step)
    }
}

/// Why a direction is served no more.
#[derive(PartialEq)]
enum End {
    Closed,
    Reset,
}

/// What both directions of a connection know.
#[derive(Default)]
struct Pair {
    is_stalled: bool,
    /// The request whose reply is met by a fault.
    awaited: Option<(i32, Fault)>,
}

async fn forward(mut client: TcpStream, mut server: TcpStream, shared: &Shared) {
    let pair = Mutex::new(Pair::default());
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let end = tokio::select! {
        end = requests(from_client, to_server, &pair, shared) => end,
        end = replies(from_server, to_client, &pair, shared) => end,
    };
    if end == End::Reset {
        client.set_zero_linger().unwrap();
    }
}

async fn requests(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    pair: &Mutex<Pair>,
    shared: &Shared,
) -> End {
    while let Some(message) = read(&mut from).await {
        if pair.lock().unwrap().is_stalled {
            continue;
        }
        let met = Command::of(&message).and_then(|command| shared.meet(&command));
        match met {
            Some(Plan { place: Place::Command, fault, .. }) => {
                pair.lock().unwrap().is_stalled = fault == Fault::Stall;
                shared.fired.notify_one();
                match fault {
                    Fault::Reset => return End::Reset,
                    Fault::Stall | Fault::Swallow => continue,
                }
            }
            Some(Plan { place: Place::Reply, fault, .. }) => {
                pair.lock().unwrap().awaited = Some((number(&message, 4), fault));
            }
            None => {}
        }
        if to.write_all(&message).await.is_err() {
            return End::Closed;
        }
    }
    End::Closed
}

async fn replies(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    pair: &Mutex<Pair>,
    shared: &Shared,
) -> End {
    while let Some(message) = read(&mut from).await {
        let met = {
            let mut pair = pair.lock().unwrap();
            let met = pair.awaited.take_if(|(request, _)| *request == number(&message, 8));
            pair.is_stalled |= met.is_some_and(|(_, fault)| fault == Fault::Stall);
            if pair.is_stalled && met.is_none() {
                continue;
            }
            met
        };
        if let Some((_, fault)) = met {
            shared.fired.notify_one();
            match fault {
                Fault::Reset => return End::Reset,
                Fault::Stall | Fault::Swallow => continue,
            }
        }
        if to.write_all(&message).await.is_err() {
            return End::Closed;
        }
    }
    End::Closed
}

/// One message: its length is its first number.
async fn read(from: &mut ReadHalf<'_>) -> Option<Vec<u8>> {
    let mut message = vec![0; 16];
    from.read_exact(&mut message).await.ok()?;
    let length = usize::try_from(number(&message, 0)).expect("a length");
    message.resize(length, 0);
    from.read_exact(&mut message[16..]).await.ok()?;
    Some(message)
}

fn number(message: &[u8], place: usize) -> i32 {
    i32::from_le_bytes(message[place..place + 4].try_into().unwrap())
}

/// A command of a transaction.
struct Command {
    /// Its name, and the collection it is about.
    what: String,
    begins: bool,
}

impl Command {
    /// `None` for what belongs to no transaction.
    fn of(message: &[u8]) -> Option<Self> {
        const OP_MSG: i32 = 2013;
        // The header, the flags, and the kind of the first section: 0 is the body.
        if number(message, 12) != OP_MSG || message.get(20) != Some(&0) {
            return None;
        }
        let length = usize::try_from(number(message, 21)).expect("a length");
        let body = RawDocument::from_bytes(&message[21..21 + length]).expect("a body is BSON");
        if body.get_bool("autocommit").is_ok_and(|alone| !alone) {
            let (name, about) = body.iter().next()?.ok()?;
            let about = about.as_str().map_or(String::new(), |about| format!(" {about}"));
            let begins = body.get_bool("startTransaction").is_ok_and(|begins| begins);
            return Some(Self { what: format!("{name}{about}"), begins });
        }
        None
    }
}
