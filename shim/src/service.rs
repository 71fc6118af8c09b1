//! The shim of one pod: the state that its calls share, and its end.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use sandbox_runtime::{Config, Error, Events, Pod, PodId, PodSpec};
use tokio::sync::{Notify, OnceCell};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{Instrument, debug, info, warn};

use crate::bundle::Bundle;
use crate::ledger::Ledger;
use crate::outbox::Outbox;
use crate::socket::ShimSocket;
use crate::stage::SandboxState;

/// How long the end of the shim waits for containerd to take the last events.
/// containerd gives a Shutdown three seconds in all.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two checks that containerd still knows the shim.
const FORGOTTEN_INTERVAL: Duration = Duration::from_secs(3);

pub struct Service {
    pod_id: PodId,
    /// Bundle of the container for which the shim was started.
    bundle: Bundle,
    socket: ShimSocket,
    socket_identity: Option<(u64, u64)>,
    pod: OnceCell<Pod>,
    sandbox: SandboxState,
    ledger: Arc<Ledger>,
    outbox: Outbox,
    creates: Mutex<Creates>,
    ended: Notify,
}

#[derive(Default)]
struct Creates {
    under_way: usize,
    /// The shim ends: it creates no container any more.
    refused: bool,
}

/// A Create under way: the shim does not end under it.
pub struct Creating<'a>(&'a Service);

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        self.0.creates().under_way -= 1;
    }
}

impl Service {
    /// The shim of a pod that is served on `socket`.
    pub fn new(pod_id: PodId, bundle: Bundle, socket: ShimSocket, outbox: Outbox) -> Self {
        Self {
            pod_id,
            bundle,
            socket_identity: socket.identity(),
            socket,
            pod: OnceCell::new(),
            sandbox: SandboxState::default(),
            ledger: Arc::new(Ledger::new(outbox.clone())),
            outbox,
            creates: Mutex::default(),
            ended: Notify::new(),
        }
    }

    pub fn pod_id(&self) -> &PodId {
        &self.pod_id
    }

    /// Bundle of the container or sandbox for which the shim was started.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The stage of the sandbox, if containerd has asked for one.
    pub fn sandbox(&self) -> &SandboxState {
        &self.sandbox
    }

    /// True for the id of the sandbox that containerd asked for.
    pub fn is_sandbox(&self, id: &str) -> bool {
        self.sandbox.exists() && self.pod_id.id() == id
    }

    /// Boots the virtual machine that the bundle's spec describes, on the first call;
    /// a failed boot is tried again on the next.
    pub async fn boot(&self) -> Result<&Pod, Error> {
        match self.pod.get() {
            Some(pod) => Ok(pod),
            None => self.boot_as(PodSpec::from_bundle(self.bundle.dir())?).await,
        }
    }

    /// Boots the pod that `spec` describes; see [`Service::boot`].
    pub async fn boot_as(&self, spec: PodSpec) -> Result<&Pod, Error> {
        self.pod
            .get_or_try_init(|| async {
                if self.creates().refused {
                    return Err(self.ending());
                }
                let config = Config::load()?;
                let (pod, events) = Pod::create(config, self.pod_id.clone(), spec).await?;
                tokio::spawn(follow(events, self.ledger.clone()).in_current_span());
                Ok(pod)
            })
            .await
    }

    pub fn pod(&self) -> Option<&Pod> {
        self.pod.get()
    }

    /// Order of the containers' events.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Registers a Create; none when the shim is ending.
    pub fn begin_create(&self) -> Option<Creating<'_>> {
        let mut creates = self.creates();
        if creates.refused {
            return None;
        }
        creates.under_way += 1;
        Some(Creating(self))
    }

    /// Ends the shim if it has no containers. When this returns, the socket is
    /// free for another shim and nothing of the pod is left.
    pub async fn end_if_empty(&self) -> bool {
        {
            let mut creates = self.creates();
            if creates.under_way > 0 || self.containers() > 0 {
                return false;
            }
            creates.refused = true;
        }
        self.end().await;
        true
    }

    /// Ends the shim, and with it all containers.
    pub async fn end(&self) {
        self.creates().refused = true;
        if let Some(identity) = self.socket_identity {
            self.socket.remove(identity);
        }
        // Waits for a start of the machine that is under way; none begins now.
        let pod = self.pod.get_or_try_init(|| async { Err::<Pod, Error>(self.ending()) }).await;
        if let Ok(pod) = pod {
            pod.shutdown().await;
        }
        if !self.outbox.flush(FLUSH_TIMEOUT).await {
            warn!("containerd did not take the last events");
        }
        self.ended.notify_one();
    }

    /// Resolves when the shim has ended.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Ends a shim that containerd has forgotten: it has no containers, and
    /// its bundle is gone. containerd 1.6 leaves such shims behind when it
    /// stops between `start` and Create, or between Delete and Shutdown.
    pub async fn end_when_forgotten(&self) {
        let mut tick = interval(FORGOTTEN_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.bundle.is_gone() && self.end_if_empty().await {
                info!("no containers and no bundle: ended");
                return;
            }
        }
    }

    fn ending(&self) -> Error {
        Error::Ended { pod: self.pod_id.to_string(), reason: "its shim is ending".to_owned() }
    }

    fn containers(&self) -> usize {
        self.pod().map_or(0, |pod| pod.containers().len())
    }

    fn creates(&self) -> MutexGuard<'_, Creates> {
        self.creates.lock()
    }
}

async fn follow(mut events: Events, ledger: Arc<Ledger>) {
    while let Some(event) = events.recv().await {
        debug!(?event, "pod");
        ledger.happened(event);
    }
}
