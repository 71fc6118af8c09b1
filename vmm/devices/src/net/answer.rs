use std::net::IpAddr;
use std::sync::Arc;

use sandbox_netstack::host::HostNet;
use sandbox_netstack::listeners::Reported;
use sandbox_netstack::listing::OutlookRow;
use sandbox_netstack::policy::{Destination, Names, Policy, Protocol};
use sandbox_netstack::port::Port;
use smoltcp::time::Instant;

use super::command::{Answer, Command, Network};
use super::rings::Rings;
use super::{Configured, Net, Shut, State};
use crate::DeviceError;

impl<H: HostNet> Net<H> {
    pub(super) fn perform(
        &mut self,
        command: Command,
        rings: Option<&mut Rings>,
        now: Instant,
    ) -> Result<Answer, DeviceError> {
        let mut shut = Shut;
        let port: &mut dyn Port = match rings {
            Some(rings) => rings,
            None => &mut shut,
        };
        Ok(match command {
            Command::Configure(network) => self.configure(*network, port)?,
            Command::SetPolicy { policy, recheck } => self.set_policy(policy, recheck, port, now),
            Command::Listen(listeners) => self.listen(listeners, port, now),
            Command::Capture(capture) => {
                if let State::Up(stack) = &mut self.state {
                    stack.capture(capture.clone());
                }
                self.capture = capture;
                Answer::Done
            }
            Command::Explain { protocol, destination, at } => {
                self.explain(protocol, &destination, at, now)
            }
            Command::Listeners => match (&self.state, &self.network) {
                (State::Up(stack), _) => Answer::Listeners(stack.listeners()),
                (_, network) => {
                    let waiting = network.iter().flat_map(|network| &network.listeners);
                    Answer::Waiting(waiting.copied().collect())
                }
            },
            Command::Flows => Answer::Flows(self.stack(|stack| stack.flows()), now),
            Command::Names => Answer::Names(self.stack(|stack| stack.names(now))),
            Command::Counters => Answer::Counters(self.counted()),
        })
    }

    fn stack<T: Default>(&self, ask: impl FnOnce(&super::Stack<H>) -> T) -> T {
        match &self.state {
            State::Up(stack) => ask(stack),
            _ => T::default(),
        }
    }

    fn configure(&mut self, network: Network, port: &mut dyn Port) -> Result<Answer, DeviceError> {
        if let Err(error) = self.settle(network.outside) {
            return Ok(Answer::Failed(error));
        }
        self.network = Some(Configured { network, listeners: Vec::new() });
        self.rebuild(port)?;
        Ok(Answer::Done)
    }

    /// The first network decides where sockets are opened: the thread gives up
    /// the right to change it.
    fn settle(&mut self, outside: bool) -> Result<(), String> {
        match (self.settle.take(), &self.network) {
            (Some(settle), _) => settle(outside)
                .map_err(|error| format!("cannot enter the namespace of the sockets: {error}")),
            (None, Some(configured)) if configured.network.outside == outside => Ok(()),
            (None, _) => Err("cannot change the namespace of the sockets: the first \
                 configuration chose it, or failed to; start the pod anew"
                .to_owned()),
        }
    }

    fn set_policy(
        &mut self,
        policy: Arc<Policy>,
        recheck: bool,
        port: &mut dyn Port,
        now: Instant,
    ) -> Answer {
        let Some(configured) = &mut self.network else { return Answer::Unconfigured };
        configured.network.policy = policy.clone();
        let generation = policy.generation();
        let State::Up(stack) = &mut self.state else {
            return Answer::Replaced { generation, ended: 0 };
        };
        let ended = stack.replace(port, policy, recheck, now);
        if self.carried.tell(stack, port, now) {
            self.forwards.waker().wake();
        }
        Answer::Replaced { generation, ended: ended.try_into().unwrap_or(u64::MAX) }
    }

    fn listen(&mut self, listeners: Vec<Reported>, port: &mut dyn Port, now: Instant) -> Answer {
        let Some(configured) = &mut self.network else { return Answer::Unconfigured };
        configured.listeners = listeners;
        // Without a driver they are bound when it is ready.
        let State::Up(stack) = &mut self.state else { return Answer::Bound(Vec::new()) };
        stack.report(port, &configured.listeners, now);
        Answer::Bound(stack.failed_listeners().to_vec())
    }

    fn explain(
        &mut self,
        protocol: Protocol,
        destination: &Destination,
        at: Option<IpAddr>,
        now: Instant,
    ) -> Answer {
        let Some(Configured { network, .. }) = &self.network else { return Answer::Unconfigured };
        let rows = match &mut self.state {
            State::Up(stack) => stack.outlook(protocol, destination, at, now),
            _ => {
                let told = network.policy.explain(protocol, destination, at);
                vec![OutlookRow { address: at, names: Names::default(), told }]
            }
        };
        Answer::Explained(network.policy.generation(), rows)
    }

    fn counted(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = [
            ("link.malformed", self.drops.malformed),
            ("link.too-long", self.drops.too_long),
            ("link.unconfigured", self.drops.unconfigured),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
        if let State::Up(stack) = &self.state {
            let load = stack.load();
            let now = [
                ("open.connections", load.connections),
                ("open.dialing", load.dialing),
                ("open.fragment-bytes", load.fragments),
                ("open.pings", load.pings),
                ("open.ring-bytes", load.rings),
                ("open.udp-ports", load.ports),
            ];
            all.extend(now.map(|(name, count)| (name.to_owned(), count as u64)));
            all.extend(stack.counts());
        }
        all.sort();
        all
    }
}
