use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use sandbox_netstack::host::KernelNet;
use sandbox_netstack::watch::{Sink, Watch};
use sandbox_vm_spec::network::LinkSpec;

use super::forward::{Forward, Forwards};
use super::{Handle, Net, NetConfig, Settle};

/// What a device needs whose flows end in the network of this process.
pub struct Kernel {
    /// The guest's end of the link.
    pub link: LinkSpec,
    /// See [`NetConfig::settle`].
    pub settle: Settle,
    /// The pod's name in the audit.
    pub pod: String,
    /// Takes whole lines of the audit.
    pub audit: Sink,
    /// Carries on what no frame can reach.
    pub forwards: Box<dyn Forwards>,
}

impl Net<KernelNet> {
    /// A device whose flows end in the network of the thread that serves it.
    pub fn open(kernel: Kernel) -> io::Result<(Self, Handle)> {
        let Kernel { link, settle, pod, audit, forwards } = kernel;
        // There is one stack after the other: nobody waits for it.
        let audit = Arc::new(Mutex::new(audit));
        Net::new(NetConfig {
            link,
            host: KernelNet::new()?,
            settle,
            witnesses: Box::new(move |epoch| {
                let audit = audit.clone();
                let sink = move |lines: &[u8]| {
                    (audit.lock().unwrap_or_else(PoisonError::into_inner))(lines);
                };
                Box::new(Watch::new(&pod, epoch, Box::new(sink)))
            }),
            forwards,
            forward: |arrival, meter| Forward {
                stream: arrival.stream.into_fd(),
                target: arrival.local,
                meter,
            },
        })
    }
}
