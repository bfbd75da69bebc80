#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::net::SocketAddr;

use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use futures::stream;
use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use super::*;
use crate::{
    core::envoy::EnvoyConfig,
    xds::{
        Xds,
        pki::{Authority, Identity},
        snapshot::Kind,
    },
};

struct Server {
    xds: Xds,
    address: SocketAddr,
    authority: Authority,
    tls: watch::Sender<Arc<ServerConfig>>,
}

impl Server {
    async fn start() -> Self {
        let authority = Authority::new(Timestamp::now()).unwrap();
        let (tls, current) = watch::channel(Arc::new(config(&authority, &[&authority])));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let xds = Xds::new();
        xds.set("public", Some(EnvoyConfig::default()));
        let serving = xds.clone();
        tokio::spawn(
            async move { serving.serve(listener, current, Arc::new(|| true), CancellationToken::new()).await },
        );
        Self { xds, address, authority, tls }
    }

    /// A connection of a client with this identity.
    async fn connect(&self, identity: Option<Identity>) -> Result<Channel, tonic::transport::Error> {
        let (address, connector) = (self.address, TlsConnector::from(Arc::new(client(&self.authority, identity))));
        let connect = move |_| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("heliostat").unwrap();
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        };
        Endpoint::from_static("http://heliostat").connect_with_connector(tower::service_fn(connect)).await
    }

    fn issue(&self, binding: &str) -> Option<Identity> {
        Some(self.authority.issue_client(binding, Timestamp::now()).unwrap())
    }
}

fn config(server: &Authority, trusted: &[&Authority]) -> ServerConfig {
    let trusted = trusted.iter().map(|authority| authority.identity().certificate.as_str());
    let identity = server.issue_server(&["heliostat".to_owned()], Timestamp::now()).unwrap();
    pki::server_config(&identity, &trusted.collect::<String>()).unwrap()
}

fn client(trusted: &Authority, identity: Option<Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.identity().certificate.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// The first answer to an Envoy that asks for a binding, on a stream that stays open.
async fn ask(channel: Channel, binding: &str, envoy: &str) -> Result<DeltaDiscoveryResponse, Status> {
    let node = Node { cluster: binding.to_owned(), id: envoy.to_owned(), ..Node::default() };
    let type_url = Kind::Cluster.type_url().to_owned();
    let first = DeltaDiscoveryRequest { node: Some(node), type_url, ..DeltaDiscoveryRequest::default() };
    let requests = stream::iter([first]).chain(stream::pending());
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let mut answers = client.delta_aggregated_resources(requests).await?.into_inner();
    answers.message().await.map(Option::unwrap_or_default)
}

#[tokio::test]
async fn an_envoy_is_served_what_its_certificate_is_for() {
    let server = Server::start().await;
    let channel = server.connect(server.issue("public")).await.unwrap();
    let answer = ask(channel, "public", "one").await.unwrap();
    assert_eq!((answer.type_url.as_str(), answer.nonce.as_str()), (Kind::Cluster.type_url(), "1"));
}

#[tokio::test]
async fn the_gateway_of_another_certificate_is_refused() {
    let server = Server::start().await;
    server.xds.set("private", Some(EnvoyConfig::default()));
    let channel = server.connect(server.issue("public")).await.unwrap();
    let refused = ask(channel.clone(), "private", "one").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("for the gateway public, but the Envoy one asks for private"), "{refused}");
    let refused = ask(channel, "public", "").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn who_shows_no_certificate_of_ours_is_not_let_in() {
    let server = Server::start().await;
    let stranger = Authority::new(Timestamp::now()).unwrap();
    let own_server = server.authority.issue_server(&["public".to_owned()], Timestamp::now()).unwrap();
    let long_ago = Timestamp::from_second(1_500_000_000).unwrap();
    let identities = [
        ("none", None),
        ("of another authority", Some(stranger.issue_client("public", Timestamp::now()).unwrap())),
        ("of a server", Some(own_server)),
        ("that ran out", Some(server.authority.issue_client("public", long_ago).unwrap())),
    ];
    for (what, identity) in identities {
        // In TLS 1.3 a client learns that it was refused only when it talks.
        let asked = match server.connect(identity).await {
            Ok(channel) => ask(channel, "public", "one").await.map_err(|status| status.to_string()),
            Err(error) => Err(error.to_string()),
        };
        assert!(asked.is_err(), "a certificate {what} was taken");
    }
}

#[tokio::test]
async fn a_new_authority_is_taken_over_while_the_old_one_still_holds() {
    let server = Server::start().await;
    let old = server.connect(server.issue("public")).await.unwrap();
    let new = Authority::new(Timestamp::now()).unwrap();
    server.tls.send_replace(Arc::new(config(&server.authority, &[&server.authority, &new])));
    let identity = new.issue_client("public", Timestamp::now()).unwrap();
    let of_new = server.connect(Some(identity)).await.unwrap();
    for (channel, envoy) in [(old, "one"), (of_new, "two")] {
        assert!(ask(channel, "public", envoy).await.is_ok(), "{envoy}");
    }
}

#[tokio::test]
async fn the_protocol_that_sends_everything_each_time_is_not_served() {
    let server = Server::start().await;
    let channel = server.connect(server.issue("public")).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let refused = client.stream_aggregated_resources(stream::pending()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("DELTA_GRPC"));
}
