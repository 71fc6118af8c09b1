use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use sandbox_vm_spec::network::{LinkSpec, MAX_LISTENERS, Reply, Request};
use vmm_sys_util::eventfd::EventFd;

use super::capture::{Tap, Taps};
use super::question::Question;
use super::settings::{Settings, Tier};

/// Commands that wait for the device: more than there are clients.
const WAITING: usize = 64;

/// How long the device may take for a command. It takes one turn, which is
/// bounded; this frees a client of a device whose thread has ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the device's thread is to do: a request that was read and checked
/// where nobody's frames wait for it.
pub enum Command {
    /// See [`Request::Configure`].
    Configure(Box<Settings>),
    /// See [`Request::SetPolicy`].
    SetPolicy {
        /// The node's policy.
        node: Box<Tier>,
        /// The pod's.
        pod: Box<Tier>,
        /// Flows are looked at anew.
        recheck: bool,
    },
    /// Captures have begun or ended.
    Captures,
    /// See [`Request::Explain`].
    Explain(Question),
    /// What is answered from what is there.
    Ask(Request),
}

/// A command and who waits for its answer.
pub struct Asked {
    /// It.
    pub command: Command,
    /// Takes one reply.
    pub answer: SyncSender<Reply>,
}

/// Speaks to the device from other threads, whether the guest's driver is
/// there or not.
#[derive(Clone)]
pub struct Handle {
    link: LinkSpec,
    commands: SyncSender<Asked>,
    wake: Arc<EventFd>,
    taps: Taps,
}

impl Handle {
    /// A handle, and the device's end of it.
    pub fn new(link: LinkSpec, wake: Arc<EventFd>, taps: Taps) -> (Self, Receiver<Asked>) {
        let (commands, asked) = sync_channel(WAITING);
        (Self { link, commands, wake, taps }, asked)
    }

    /// Asks, and waits for the answer.
    pub fn ask(&self, request: Request) -> Reply {
        let asked = self.command(request).and_then(|command| self.put(command));
        asked.unwrap_or_else(|error| Reply::Failed { error })
    }

    /// Begins a capture of `snap` bytes of each frame, of the interface that is
    /// called `interface` in it.
    pub fn capture(&self, interface: &str, snap: u32) -> Result<Arc<Tap>, String> {
        let snap = usize::try_from(snap).unwrap_or(usize::MAX);
        let tap = self.taps.open(interface, snap);
        let tap = tap.ok_or("there are too many captures already; end one first")?;
        match self.put(Command::Captures) {
            Ok(_) => Ok(tap),
            Err(error) => {
                self.taps.close(&tap);
                Err(error)
            }
        }
    }

    /// Ends it.
    pub fn end_capture(&self, tap: &Tap) {
        self.taps.close(tap);
        // Without an answer there is no device left to capture of.
        let _ = self.put(Command::Captures);
    }

    fn command(&self, request: Request) -> Result<Command, String> {
        match request {
            Request::Configure(network) => {
                let settings = Settings::new(&self.link, *network)?;
                Ok(Command::Configure(Box::new(settings)))
            }
            Request::SetPolicy { node, pod, recheck } => Ok(Command::SetPolicy {
                node: Box::new(Tier::checked("node", node)?),
                pod: Box::new(Tier::checked("pod", pod)?),
                recheck,
            }),
            Request::Listeners { listeners } if listeners.len() > MAX_LISTENERS => {
                let count = listeners.len();
                Err(format!("{count} listeners reported, at most {MAX_LISTENERS} are taken"))
            }
            Request::Explain { protocol, destination, at } => {
                Question::read(&protocol, &destination, at).map(Command::Explain)
            }
            request => Ok(Command::Ask(request)),
        }
    }

    fn put(&self, command: Command) -> Result<Reply, String> {
        let gone = || "the network device has ended with its machine".to_owned();
        let (answer, answered) = sync_channel(1);
        self.commands.send(Asked { command, answer }).map_err(|_| gone())?;
        self.wake().map_err(|error| format!("cannot wake the network device: {error}"))?;
        answered.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Disconnected => gone(),
            RecvTimeoutError::Timeout => {
                let seconds = PATIENCE.as_secs();
                format!("the network device has not answered for {seconds} s")
            }
        })
    }

    fn wake(&self) -> io::Result<()> {
        self.wake.write(1)
    }
}
