//! Every call of containerd begins and ends at a point at which tests can end
//! the shim: `Task.Create begins`, `Task.Create ends`.

use std::collections::HashMap;

use async_trait::async_trait;
use sandbox_runtime::kill_point;
use ttrpc::r#async::{MethodHandler, Service, TtrpcContext};
use ttrpc::proto::{Request, Response};

/// A method with a kill point before and one after it.
struct Killing {
    method: String,
    inner: Box<dyn MethodHandler + Send + Sync>,
}

#[async_trait]
impl MethodHandler for Killing {
    async fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        kill_point::reach(&format!("{} begins", self.method));
        let response = self.inner.handler(context, request).await;
        kill_point::reach(&format!("{} ends", self.method));
        response
    }
}

/// The services, their methods with points.
pub fn services(services: HashMap<String, Service>) -> HashMap<String, Service> {
    let with_points = |(name, mut service): (String, Service)| {
        let last = name.rsplit('.').next().unwrap_or_default().to_owned();
        let methods = std::mem::take(&mut service.methods);
        service.methods = methods
            .into_iter()
            .map(|(method, inner)| {
                let named = format!("{last}.{method}");
                (method, Box::new(Killing { method: named, inner }) as _)
            })
            .collect();
        (name, service)
    };
    services.into_iter().map(with_points).collect()
}
