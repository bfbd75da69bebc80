//! Host rewriting: what a Service is asked for by way of a gateway. The Service here leads to this
//! process, which says by which Host it was asked.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, header::HOST};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use super::{Exports, START};
use crate::{fixture::exported_cluster_ip, objects::wait, relay::reachable_from, rig::api_server};

/// Answers each request with its Host; ends when it is dropped.
struct Mirror {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Mirror {
    async fn start() -> Self {
        let listener = TcpListener::bind((reachable_from(api_server("east")).await, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(said)));
            }
        });
        Self { address, task }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn said(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, http::Error> {
    let host = request.headers().get(HOST).map(|host| host.as_bytes().to_vec()).unwrap_or_default();
    Response::builder().body(Full::new(Bytes::from(host)))
}

impl Exports {
    /// What a Service sees as its Host, with `hostRewrite` and without.
    pub(super) async fn rewrites_hosts(&self) {
        let (name, mirror) = (&self.case.name, Mirror::start().await);
        let mut service = exported_cluster_ip("asked");
        service["spec"]["ports"] = json!([{"name": "http", "port": 80}]);
        self.case.origins().create(&service).await;
        let slice = json!({
            "metadata": {"name": "asked-0", "labels": {
                "heliostat.dev/export": "true", "kubernetes.io/service-name": "asked",
            }},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": mirror.address.port(), "protocol": "TCP"}],
            "endpoints": [{"addresses": [mirror.address.ip().to_string()], "conditions": {"ready": true}}],
        });
        self.case.origin_slices().create(&slice).await;
        let asked = format!("asked-{name}.{name}.svc.cluster.local");
        self.sees(&asked, &asked).await;
        self.rewriting(true).await;
        self.sees(&asked, &format!("asked.{name}.svc.cluster.local")).await;
        self.rewriting(false).await;
        self.sees(&asked, &asked).await;
        self.case.origins().delete("asked").await;
    }

    async fn rewriting(&self, on: bool) {
        self.bindings().patch(&self.case.name, json!({"spec": {"export": {"hostRewrite": on}}})).await;
    }

    async fn sees(&self, asked: &str, host: &str) {
        wait(&format!("{}: a Service asked for as {asked} sees {host}", self.case.name), START, || async {
            let said = self.curl(&["--fail", &format!("http://{asked}/")]).await?;
            if said == host { Ok(()) } else { Err(said) }
        })
        .await;
    }
}
