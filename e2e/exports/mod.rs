//! The exporter's side with real gateways and real traffic: pods of west call Services of east by
//! the names of their mirrors, through gateways that the controller of east programs. Here is what
//! tests of all gateways share; each make has a file.

mod bindings;
mod check;
mod contour;
mod delay;
mod envoy;
mod envoy_gateway;
mod hosts;
mod many;
mod probes;
mod traefik;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    direct::pod,
    fixture::{SOON, exported_cluster_ip},
    objects::{Objects, condition, same, says, wait},
    rig::{rig, try_rig},
    support::{Case, merge},
};

/// Pods take their time to start, and a gateway's to be made; nobody promises how long.
const START: Duration = Duration::from_secs(20);
/// From the label to traffic (through Heliostat's own gateway).
const CARRIED: Duration = Duration::from_secs(2);

/// A case whose Services go out through a gateway: a binding of the case's name, a client pod in
/// the importer, and a policy that knows no other way.
pub(crate) struct Exports {
    pub(crate) case: Case,
}

impl Exports {
    pub(crate) async fn new(name: &str, binding: Value) -> Self {
        let case = Case::new(name).await;
        let exports = Self { case };
        exports.bindings().remove(name).await;
        exports.case.policies().patch("all", json!({"spec": {"via": ["Gateway"]}})).await;
        Objects::pods(&exports.case.west, name).create(&pod("client")).await;
        let mut object = json!({
            "apiVersion": "heliostat.dev/v1alpha1", "kind": "GatewayBinding",
            "metadata": {"name": name},
            "spec": {"routing": "Port", "export": {"services": {"namespaces": [name]}}},
        });
        merge(&mut object["spec"], binding);
        exports.bindings().create(&object).await;
        exports
    }

    fn bindings(&self) -> Objects {
        Objects::at(&self.case.east, "/apis/heliostat.dev/v1alpha1/gatewaybindings")
    }

    fn published(&self) -> Objects {
        Objects::slices(&self.case.east, &self.case.name)
    }

    /// Waits until the binding says so.
    async fn says(&self, kind: &str, status: &str, reason: &str, promise: Duration) -> Value {
        let wanted = (status.to_owned(), reason.to_owned());
        wait(&format!("{}: binding {kind}={status}/{reason}", self.case.name), promise, || async {
            let binding = self.bindings().get(&self.case.name).await.unwrap();
            same(says(&binding, kind), &wanted).map_err(|there| (there, condition(&binding, kind))).map(|()| binding)
        })
        .await
    }

    /// A Deployment that answers with its pods' names, HTTP on 8080 and UDP on 8081, and its exported
    /// Service: http 80, udp 53.
    pub(crate) async fn backend(&self, name: &str, exported: bool) {
        let mut template = pod("ignored");
        template["metadata"] = json!({"labels": {"app": name}});
        template["spec"]["containers"][0]["readinessProbe"] =
            json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1});
        self.deployment(name, template).await;
        let mut service = exported_cluster_ip(name);
        service["spec"]["selector"] = json!({"app": name});
        service["spec"]["ports"] = json!([
            {"name": "http", "port": 80, "targetPort": 8080},
            {"name": "udp", "port": 53, "targetPort": 8081, "protocol": "UDP"},
        ]);
        if !exported {
            service["metadata"]["labels"] = json!({});
        }
        self.case.origins().create(&service).await;
    }

    fn url(&self, service: &str) -> String {
        format!("http://{}.{}.svc.cluster.local/hostname", self.case.mirrored(service), self.case.name)
    }

    /// What curl says in the client's pod.
    async fn curl(&self, arguments: &[&str]) -> Result<String, String> {
        let client = format!("{}/client", self.case.name);
        let command = ["west", &client, "curl", "-sS", "--max-time", "3"];
        try_rig("pod", &[&command[..], arguments].concat()).await
    }

    /// Waits until the mirror answers from a pod of that name in the other cluster.
    pub(crate) async fn answers(&self, service: &str, promise: Duration) -> String {
        let url = self.url(service);
        wait(&format!("{}: {url} answers", self.case.name), promise, || async {
            let said = self.curl(&["--fail", &url]).await?;
            if said.starts_with(&format!("{service}-")) { Ok(said) } else { Err(said) }
        })
        .await
    }

    /// Twenty calls in a row are answered, as soon as kube-proxy has taken over what the slices say.
    async fn answers_each_time(&self, service: &str) {
        let url = self.url(service);
        wait(&format!("{}: twenty calls in a row are answered", self.case.name), START, || async {
            for _ in 0..20 {
                self.curl(&["--fail", &url]).await?;
            }
            Ok::<(), String>(())
        })
        .await;
    }

    /// Waits until a UDP datagram to the mirror is answered from the other cluster.
    async fn answers_udp(&self, service: &str) {
        let client = Objects::pods(&self.case.west, &self.case.name).get("client").await.unwrap();
        let client = client["status"]["podIP"].as_str().unwrap().to_owned();
        let host = format!("{}.{}.svc.cluster.local", self.case.mirrored(service), self.case.name);
        let url = format!("http://{client}:8080/dial?host={host}&port=53&protocol=udp&request=hostname&tries=1");
        wait(&format!("{}: udp to {host} is answered", self.case.name), SOON, || async {
            let said = self.curl(&["--fail", &url]).await?;
            let said: Value = serde_json::from_str(&said).map_err(|e| e.to_string())?;
            let answer = said["responses"][0].as_str().unwrap_or_default().to_owned();
            if answer.starts_with(&format!("{service}-")) { Ok(()) } else { Err(said.to_string()) }
        })
        .await;
    }

    /// The gateway's first address.
    async fn address(&self) -> String {
        wait(&format!("{}: the gateway has an address", self.case.name), START, || async {
            let binding = self.bindings().get(&self.case.name).await.unwrap();
            binding["status"]["addresses"][0]["value"].as_str().map(str::to_owned).ok_or(binding["status"].clone())
        })
        .await
    }

    /// The published outside port of a Service.
    pub(crate) async fn outside_port(&self, service: &str, port: &str) -> Option<u64> {
        let slices = self.published().all().await;
        let of = |s: &&Value| s["metadata"]["labels"]["heliostat.dev/service-name"] == service;
        let slice = slices.values().find(of)?;
        slice["ports"].as_array()?.iter().find(|p| p["name"] == port)?["port"].as_u64()
    }

    async fn unexport(&self, service: &str) {
        self.case.origins().patch(service, json!({"metadata": {"labels": {"heliostat.dev/export": null}}})).await;
    }

    async fn export_again(&self, service: &str) {
        self.case.origins().patch(service, json!({"metadata": {"labels": {"heliostat.dev/export": "true"}}})).await;
    }

    /// Nothing answers there: the connection is refused or closed, not held.
    async fn is_refused(&self, address: &str, port: u64) {
        let url = format!("http://{address}:{port}/hostname");
        wait(&format!("{}: {url} is refused", self.case.name), SOON, || async {
            match self.curl(&["--fail", &url]).await {
                Err(_) => Ok(()),
                Ok(said) => Err(said),
            }
        })
        .await;
    }

    /// Everything by Port: traffic, no traffic without consent, away and back, which takes this gateway no
    /// longer than that.
    async fn by_port(&self, carried: Duration) {
        self.backend("echo", true).await;
        self.backend("secret", false).await;
        self.says("Ready", "True", "Ready", START).await;
        self.answers("echo", START).await;
        self.answers_udp("echo").await;
        self.keeps_the_contract().await;
        let (address, port) = (self.address().await, self.outside_port("echo", "http").await.unwrap());
        assert_eq!(self.outside_port("secret", "http").await, None, "nobody consented to its export");
        let before = self.case.mirrors().get(&self.case.mirrored("echo")).await.unwrap();

        self.unexport("echo").await;
        self.case.has_services(&[]).await;
        self.is_refused(&address, port).await;
        wait(&format!("{}: echo is not published", self.case.name), SOON, || async {
            same(self.outside_port("echo", "http").await, &None)
        })
        .await;

        self.export_again("echo").await;
        self.answers("echo", carried).await;
        assert_eq!(self.outside_port("echo", "http").await, Some(port), "the same port as before");
        let after = self.case.mirrors().get(&self.case.mirrored("echo")).await.unwrap();
        assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
        let via = format!("Gateway/{}", self.case.name);
        assert_eq!(after["metadata"]["annotations"]["heliostat.dev/via"], via);
    }

    /// The binding is deleted: nothing of it stays but the claims, which are let go.
    async fn goes(&self, address: &str, port: Option<u64>) {
        self.bindings().delete(&self.case.name).await;
        wait(&format!("{}: nothing is published", self.case.name), SOON, || async {
            let all = self.published().all().await;
            let ours = |s: &&Value| {
                s["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "gateway.heliostat.dev"
            };
            let left = all.values().filter(ours).count();
            same(left, &0)
        })
        .await;
        if let Some(port) = port {
            self.is_refused(address, port).await;
        }
        let leases = Objects::at(&self.case.east, "/apis/coordination.k8s.io/v1/namespaces/heliostat-system/leases");
        wait(&format!("{}: its claims are let go", self.case.name), SOON, || async {
            let of = |l: &&Value| l["metadata"]["labels"]["heliostat.dev/binding"] == *self.case.name;
            let all = leases.all().await;
            let held: Vec<String> = all
                .values()
                .filter(of)
                .filter(|l| l["spec"]["renewTime"].is_null())
                .map(|l| l["metadata"]["name"].to_string())
                .collect();
            same(held, &vec![])
        })
        .await;
    }

    /// By Host: each of the names leads there, and no other.
    async fn by_host(&self) {
        let name = &self.case.name;
        self.backend("echo", true).await;
        self.backend("secret", false).await;
        self.answers("echo", START).await;
        for host in [format!("echo-{name}"), format!("echo-{name}.{name}"), format!("echo-{name}.{name}.svc")] {
            let said = self.curl(&["--fail", &format!("http://{host}/hostname")]).await.unwrap();
            assert!(said.starts_with("echo-"), "{host}: {said}");
        }
        self.keeps_the_contract().await;
        self.rewrites_hosts().await;
        let address = self.address().await;
        for host in [format!("secret-{name}"), format!("secret.{name}.svc.cluster.local"), "nobody".to_owned()] {
            let header = format!("Host: {host}");
            let url = format!("http://{address}/hostname");
            let code = self.curl(&["-o", "/dev/null", "-w", "%{http_code}", "-H", &header, &url]).await.unwrap();
            assert_eq!(code, "404", "{host}");
        }
        self.goes(&address, None).await;
    }

    /// By SNI: TLS from end to end, its certificate checked against the mirror's name.
    async fn by_sni(&self) {
        let name = &self.case.name;
        let host = format!("vault-{name}.{name}.svc.cluster.local");
        let ca = self.tls_backend("vault", &host).await;
        let url = format!("https://{host}/hostname");
        wait(&format!("{name}: {url} answers"), START, || async {
            let said = self.curl(&["--fail", "--cacert", &ca, &url]).await?;
            if said.starts_with("vault-") { Ok(()) } else { Err(said) }
        })
        .await;
        self.keeps_the_contract().await;
        let address = self.address().await;
        let stranger = format!("secret-{name}.{name}.svc.cluster.local");
        let connect = format!("{stranger}:443:{address}:443");
        let url = format!("https://{stranger}/hostname");
        let refused = self.curl(&["--insecure", "--fail", "--connect-to", &connect, &url]).await;
        assert!(refused.is_err(), "an unknown name is not answered: {refused:?}");
        self.goes(&address, None).await;
        std::fs::remove_file(ca).unwrap();
    }

    /// A Deployment that answers by TLS with a certificate for `host`, and its exported Service: https
    /// 443. Gives the file with the certificate.
    async fn tls_backend(&self, name: &str, host: &str) -> String {
        let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Objects::secrets(&self.case.east, &self.case.name)
            .create(&json!({
                "metadata": {"name": name}, "type": "kubernetes.io/tls",
                "data": {"tls.crt": STANDARD.encode(&certificate), "tls.key": STANDARD.encode(key)},
            }))
            .await;
        let mut template = pod("ignored");
        template["metadata"] = json!({"labels": {"app": name}});
        template["spec"]["volumes"] = json!([{"name": "tls", "secret": {"secretName": name}}]);
        let container = &mut template["spec"]["containers"][0];
        container["args"] = json!([
            "netexec",
            "--http-port=8443",
            "--udp-port=-1",
            "--tls-cert-file=/tls/tls.crt",
            "--tls-private-key-file=/tls/tls.key",
        ]);
        container["volumeMounts"] = json!([{"name": "tls", "mountPath": "/tls"}]);
        self.deployment(name, template).await;
        let mut service = exported_cluster_ip(name);
        service["spec"]["selector"] = json!({"app": name});
        service["spec"]["ports"] = json!([{"name": "https", "port": 443, "targetPort": 8443}]);
        self.case.origins().create(&service).await;
        let file = std::env::temp_dir().join(format!("heliostat-{}-{name}.crt", self.case.name));
        std::fs::write(&file, certificate).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Two pods of a template.
    async fn deployment(&self, name: &str, template: Value) {
        let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", self.case.name);
        Objects::at(&self.case.east, deployments)
            .create(&json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template},
            }))
            .await;
    }

    /// gRPC health checks through the gateway, by a Service whose port says so, in the word that the gateway
    /// understands.
    async fn grpc(&self, app_protocol: &str) {
        let mut template = pod("ignored");
        template["metadata"] = json!({"labels": {"app": "health"}});
        template["spec"]["containers"][0]["args"] = json!(["grpc-health-checking", "--port=5000", "--http-port=8080"]);
        self.deployment("health", template).await;
        let mut service = exported_cluster_ip("health");
        service["spec"]["selector"] = json!({"app": "health"});
        service["spec"]["ports"] =
            json!([{"name": "grpc", "port": 80, "targetPort": 5000, "appProtocol": app_protocol}]);
        self.case.origins().create(&service).await;
        let probe = rig("program", &["grpc-health-probe"]).await;
        let host = format!("{}.{}.svc.cluster.local:80", self.case.mirrored("health"), self.case.name);
        let client = format!("{}/client", self.case.name);
        wait(&format!("{}: grpc to {host}", self.case.name), START, || async {
            try_rig("pod", &["west", &client, &probe, "-addr", &host, "-connect-timeout", "2s"]).await
        })
        .await;
    }
}
