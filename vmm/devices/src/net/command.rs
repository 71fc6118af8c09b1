use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sandbox_netstack::capture::Capture;
use sandbox_netstack::host::Errno;
use sandbox_netstack::listeners::{Listen, ListenerRow, Reported};
use sandbox_netstack::listing::{FlowRow, NameRow, OutlookRow};
use sandbox_netstack::policy::{Destination, Policy, Protocol};
use sandbox_netstack::stack;
use smoltcp::time::Instant;

use crate::mailbox::{Mailbox, MailboxError};

/// A command is done in the next turn, which is bounded: this frees the caller
/// of a device whose thread has ended.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The pod's network. Callers parse and compile on their own thread.
pub struct Network {
    /// Addresses and sizes. The device itself sets `capabilities` and `seed`.
    pub config: stack::Config,
    /// The argument of [`Settle`](super::Settle).
    pub outside: bool,
    /// The policy in force.
    pub policy: Arc<Policy>,
}

/// A command to the device's thread.
pub enum Command {
    /// Replaces the network and ends every open flow.
    Configure(Box<Network>),
    /// Puts a policy in force for new flows.
    SetPolicy {
        /// Compiled by the caller.
        policy: Arc<Policy>,
        /// Ends the open flows that it denies.
        recheck: bool,
    },
    /// Binds exactly these listeners of the guest.
    Listen(Vec<Reported>),
    /// Starts to capture, or stops.
    Capture(Option<Arc<dyn Capture>>),
    /// Explains the policy's verdict on a flow that is not opened.
    Explain {
        /// The flow's protocol.
        protocol: Protocol,
        /// The flow's other end.
        destination: Destination,
        /// The address to assume for a name.
        at: Option<IpAddr>,
    },
    /// Returns the listeners.
    Listeners,
    /// Returns the open flows.
    Flows,
    /// Returns the names learnt from DNS.
    Names,
    /// Returns the counters.
    Counters,
}

/// The reply to a [`Command`].
pub enum Answer {
    /// To [`Command::Configure`] and [`Command::Capture`].
    Done,
    /// The command needs a network and there is none.
    Unconfigured,
    /// To [`Command::Configure`]: why the device cannot open sockets there.
    Failed(String),
    /// To [`Command::SetPolicy`].
    Replaced {
        /// The policy's.
        generation: u64,
        /// Flows that were ended.
        ended: u64,
    },
    /// To [`Command::Listen`]: what was not bound.
    Bound(Vec<(Listen, Errno)>),
    /// To [`Command::Explain`], with the policy's generation.
    Explained(u64, Vec<OutlookRow>),
    /// To [`Command::Listeners`].
    Listeners(Vec<ListenerRow>),
    /// To [`Command::Listeners`] before the guest's driver is ready.
    Waiting(Vec<Reported>),
    /// To [`Command::Flows`], with the stack's time.
    Flows(Vec<FlowRow>, Instant),
    /// To [`Command::Names`].
    Names(Vec<NameRow>),
    /// To [`Command::Counters`].
    Counters(Vec<(String, u64)>),
}

/// Sends commands to the device from other threads, with or without a driver
/// of the guest.
#[derive(Clone)]
pub struct Handle {
    pub(super) commands: Mailbox<Command, Answer>,
    pub(super) epoch: Duration,
}

impl Handle {
    /// Sends a command and waits for the answer.
    pub fn ask(&self, command: Command) -> Result<Answer, MailboxError> {
        self.commands.call(command, TIMEOUT)
    }

    /// The time since 1970 at the stack's zero.
    pub fn epoch(&self) -> Duration {
        self.epoch
    }
}
