//! The control plane of the pod's network: it parses the requests of the shim
//! and of `sandboxctl`, compiles policies, and sends the device commands. All of
//! it runs on the client's thread, so that no frame waits for it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandbox_devices::net::{Answer, Command, Handle};
use sandbox_netstack::policy::{Destination, Policy, Protocol};
use sandbox_vm_spec::network::{LinkSpec, MAX_LISTENERS, PolicySource, Reply, Request};

use super::capture::{Tap, Taps};
use super::rows;
use super::settings::{Settings, Tier, Tiers};

const UNCONFIGURED: &str = "the pod's network is not configured yet; configure it first";

pub struct Control {
    link: LinkSpec,
    device: Handle,
    taps: Taps,
    /// Locked until the device has done a change, so that policies come into
    /// force in the order of their generations.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the policy compiled last: none has the number of another, even if the
    /// device did not reply in time.
    generation: u64,
    current: Option<Current>,
}

/// The network in force.
struct Current {
    settings: Settings,
    node: PolicySource,
    pod: PolicySource,
    policy: Arc<Policy>,
}

impl Control {
    /// The control plane of a device whose guest has this link.
    pub fn new(link: LinkSpec, device: Handle) -> Self {
        let taps = Taps::new(device.epoch());
        Self { link, device, taps, state: Mutex::default() }
    }

    /// Answers every request but [`Request::Capture`].
    pub fn ask(&self, request: Request) -> Reply {
        self.answer(request).unwrap_or_else(|error| Reply::Failed { error })
    }

    /// Starts a capture of `snap` bytes of each frame; `interface` is its name
    /// in the capture.
    pub fn capture(&self, interface: &str, snap: u32) -> Result<Arc<Tap>, String> {
        let snap = usize::try_from(snap).unwrap_or(usize::MAX);
        let tap = self.taps.open(interface, snap);
        let tap = tap.ok_or("there are too many captures already; end one first")?;
        let started = self.command(Command::Capture(self.taps.capture()));
        started.inspect_err(|_| self.taps.close(&tap))?;
        Ok(tap)
    }

    pub fn end_capture(&self, tap: &Tap) {
        self.taps.close(tap);
        // An error means that the device has ended.
        let _ = self.command(Command::Capture(self.taps.capture()));
    }

    fn answer(&self, request: Request) -> Result<Reply, String> {
        let command = match request {
            Request::Ping => return Ok(Reply::Done),
            Request::Configure(network) => {
                let (settings, tiers) = Settings::new(&self.link, *network)?;
                return self.configure(settings, tiers);
            }
            Request::SetPolicy { node, pod, recheck } => {
                let (node, pod) = (Tier::checked("node", node)?, Tier::checked("pod", pod)?);
                return self.set_policy(Tiers { node, pod }, recheck);
            }
            Request::Policy => return self.policy(),
            Request::Listeners { listeners } if listeners.len() > MAX_LISTENERS => {
                let count = listeners.len();
                return Err(format!("cannot take {count} listeners: at most {MAX_LISTENERS}"));
            }
            Request::Listeners { listeners } => {
                Command::Listen(listeners.into_iter().map(rows::reported).collect())
            }
            Request::Listening => Command::Listeners,
            Request::Flows => Command::Flows,
            Request::Names => Command::Names,
            Request::Counters => Command::Counters,
            Request::Explain { protocol, destination, at } => explain(&protocol, &destination, at)?,
            Request::Capture { .. } => return Err("a capture has a connection of its own".into()),
        };
        self.command(command)
    }

    fn configure(&self, settings: Settings, tiers: Tiers) -> Result<Reply, String> {
        let mut state = self.state();
        if let Some(former) = &state.current
            && former.settings == settings
            && former.node == tiers.node.source
            && former.pod == tiers.pod.source
        {
            return Ok(Reply::Done);
        }
        state.generation += 1;
        let policy = settings.policy(&tiers, state.generation);
        let same_link = |former: &Current| former.settings.same_link(&settings);
        self.command(if state.current.as_ref().is_some_and(same_link) {
            Command::SetPolicy { policy: policy.clone(), recheck: false }
        } else {
            Command::Configure(settings.network(&self.link, policy.clone()).into())
        })?;
        let (node, pod) = (tiers.node.source, tiers.pod.source);
        state.current = Some(Current { settings, node, pod, policy });
        Ok(Reply::Done)
    }

    fn set_policy(&self, tiers: Tiers, recheck: bool) -> Result<Reply, String> {
        let mut state = self.state();
        let State { generation, current } = &mut *state;
        let current = current.as_mut().ok_or(UNCONFIGURED)?;
        *generation += 1;
        let policy = current.settings.policy(&tiers, *generation);
        let reply = self.command(Command::SetPolicy { policy: policy.clone(), recheck })?;
        // Frees the former policy, here and not on the device's thread.
        current.policy = policy;
        (current.node, current.pod) = (tiers.node.source, tiers.pod.source);
        Ok(reply)
    }

    fn policy(&self) -> Result<Reply, String> {
        let state = self.state();
        let Current { node, pod, policy, .. } = state.current.as_ref().ok_or(UNCONFIGURED)?;
        let (node, pod) = (node.clone(), pod.clone());
        Ok(Reply::Policy { generation: policy.generation(), node, pod })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, command: Command) -> Result<Reply, String> {
        let answer = self.device.ask(command);
        let answer =
            answer.map_err(|error| format!("the network device does not reply: {error}"))?;
        Ok(match answer {
            Answer::Done => Reply::Done,
            Answer::Unconfigured => return Err(UNCONFIGURED.into()),
            Answer::Failed(error) => return Err(error),
            Answer::Replaced { generation, ended } => Reply::PolicySet { generation, ended },
            Answer::Bound(failed) => Reply::Listening { failed: rows::failed(failed) },
            Answer::Explained(generation, rows) => {
                Reply::Explained { generation, outlook: rows::outlook(rows) }
            }
            Answer::Listeners(rows) => Reply::Listeners { listeners: rows::listeners(rows) },
            Answer::Waiting(rows) => Reply::Listeners { listeners: rows::waiting(&rows) },
            Answer::Flows(rows, now) => Reply::Flows { flows: rows::flows(rows, now) },
            Answer::Names(rows) => Reply::Names { names: rows::names(rows) },
            Answer::Counters(counters) => Reply::Counters { counters },
        })
    }
}

fn explain(protocol: &str, destination: &str, at: Option<IpAddr>) -> Result<Command, String> {
    let known = Protocol::ALL.iter().copied().find(|known| known.to_string() == protocol);
    let protocol =
        known.ok_or_else(|| format!("invalid protocol {protocol:?}: none of tcp, udp and icmp"))?;
    let destination = destination.parse::<Destination>().map_err(|error| error.to_string())?;
    Ok(Command::Explain { protocol, destination, at })
}

#[cfg(test)]
mod tests;
