use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{server::Host, *};

/// Must never be seen in an error or in a debug print.
const CANARY: &str = "canary-4f7a";

struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

fn authority() -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { pem, issuer: rcgen::Issuer::new(params, key) }
}

fn client_certificate(authority: &Authority, year: i32) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 2);
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    (STANDARD.encode(certificate.pem()), STANDARD.encode(key.serialize_pem()))
}

/// A kubeconfig as `heliostat link` writes it; JSON is YAML.
fn good() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "east",
        "clusters": [{"name": "east", "cluster": {"server": "https://172.30.0.3:6443", "certificate-authority-data": STANDARD.encode(authority().pem)}}],
        "users": [{"name": "heliostat", "user": {"token": CANARY}}],
        "contexts": [{"name": "east", "context": {"cluster": "east", "user": "heliostat", "namespace": "default"}}],
    })
}

fn parse(document: &Value) -> Result<Credentials, CredentialsError> {
    Credentials::parse(document.to_string().as_bytes())
}

/// The error of a good kubeconfig with one field changed; it never shows the canary.
fn refused(pointer: &str, value: Value) -> String {
    let mut document = good();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    document.pointer_mut(parent).unwrap()[field] = value;
    error(document.to_string().as_bytes())
}

fn error(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned();
    let error = Credentials::parse(bytes).expect_err(&shown);
    assert_eq!(error.reason(), Reason::CredentialsRejected);
    assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    error.to_string()
}

#[test]
fn what_heliostat_link_writes_is_accepted() {
    let credentials = parse(&good()).unwrap();
    assert_eq!(credentials.server.host, Host::Ip(IpAddr::from([172, 30, 0, 3])));
    assert_eq!((credentials.server.port, credentials.server.path.as_str()), (6443, ""));
    assert_eq!(credentials.authorization.as_ref().unwrap(), &format!("Bearer {CANARY}"));
    assert_eq!(credentials.expires_at, None);
    assert!(credentials.server_name.is_none());
}

#[test]
fn kubectls_boilerplate_and_yaml_are_accepted() {
    let ca = STANDARD.encode(authority().pem);
    let yaml = format!(
        "# a comment\napiVersion: v1\nkind: Config\npreferences: {{}}\nextensions: null\ncurrent-context: east\nclusters:\n- name: east\n  cluster:\n    server: https://api.east.example\n    certificate-authority-data: {ca}\n    extensions: []\ncontexts:\n- context:\n    cluster: east\n    user: u\n  name: east\nusers:\n- name: u\n  user:\n    token: abc\n"
    );
    let credentials = Credentials::parse(yaml.as_bytes()).unwrap();
    assert_eq!(credentials.server.host, Host::Name("api.east.example".into()));
    assert_eq!(credentials.server.port, 443);
}

#[test]
fn a14_debug_shows_no_secret() {
    let credentials = parse(&good()).unwrap();
    assert_eq!(format!("{credentials:?}"), "Credentials { kind: \"token\", expires_at: None, .. }");
    // Nor does a request that carries it.
    let request = http::Request::get("/").header("authorization", credentials.authorization.unwrap()).body(()).unwrap();
    assert!(!format!("{request:?}").contains(CANARY), "{request:?}");
}

#[test]
fn a01_fields_that_run_open_dial_or_skip_are_refused_by_name() {
    let user = "/users/0/user";
    let cluster = "/clusters/0/cluster";
    for (parent, field) in [
        (user, "exec"),
        (user, "auth-provider"),
        (user, "tokenFile"),
        (user, "client-certificate"),
        (user, "client-key"),
        (user, "as"),
        (user, "as-uid"),
        (user, "as-groups"),
        (user, "as-user-extra"),
        (user, "username"),
        (user, "password"),
        (user, "extensions"),
        (user, "unknown"),
        (cluster, "certificate-authority"),
        (cluster, "insecure-skip-tls-verify"),
        (cluster, "proxy-url"),
        (cluster, "extensions"),
        (cluster, "disable-compression"),
        (cluster, "unknown"),
        ("", "extensions"),
        ("", "preferences"),
        ("", "unknown"),
        ("/contexts/0/context", "extensions"),
        ("/contexts/0/context", "unknown"),
        ("/clusters/0", "unknown"),
        ("/users/0", "exec"),
    ] {
        let path = format!("{parent}/{field}").trim_start_matches('/').replace("/0", "[0]").replace('/', ".");
        for value in [json!(CANARY), json!({"command": CANARY}), json!([CANARY]), json!(true)] {
            let said = refused(&format!("{parent}/{field}"), value);
            assert!(said.starts_with(&format!("{path} is not allowed in the kubeconfig of a link: ")), "{said}");
        }
    }
}

/// Fields with values that would be noticed if anybody did what they say: a program that leaves a
/// mark, and a pipe that lets its writer go on when somebody opens it to read.
#[test]
fn a01_no_program_is_run_and_no_file_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let (mark, pipe) = (directory.path().join("mark"), directory.path().join("pipe"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || drop(std::fs::OpenOptions::new().write(true).open(pipe).unwrap())
    });
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [mark],
        "interactiveMode": "Never", "installHint": "x", "provideClusterInfo": false,
    });
    let provider = json!({"name": "gcp", "config": {"cmd-path": "touch", "cmd-args": mark}});
    let (user, cluster) = ("/users/0/user", "/clusters/0/cluster");
    for (parent, field, value) in [
        (user, "exec", exec),
        (user, "auth-provider", provider),
        (user, "tokenFile", json!(pipe)),
        (user, "client-certificate", json!(pipe)),
        (user, "client-key", json!(pipe)),
        (cluster, "certificate-authority", json!(pipe)),
    ] {
        // As the only identity or authority, and beside the good one.
        for instead in [None, Some("token"), Some("certificate-authority-data")] {
            let mut document = good();
            let object = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            object.insert(field.to_owned(), value.clone());
            instead.map(|other| object.remove(other));
            assert!(error(document.to_string().as_bytes()).contains(&format!(".{field} is not allowed")));
        }
    }
    // What a program would need to begin.
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!mark.exists(), "a program was run");
    assert!(!writer.is_finished(), "a file was opened");
    drop(std::fs::File::open(&pipe).unwrap());
    writer.join().unwrap();
}

#[test]
fn a01_exactly_one_of_each_and_in_use() {
    for list in ["clusters", "users", "contexts"] {
        let mut document = good();
        let entry = document[list][0].clone();
        document[list] = json!([entry, entry]);
        assert_eq!(
            error(document.to_string().as_bytes()),
            format!("{list} of the kubeconfig has several entries; keep the one that this link is to use")
        );
        for empty in [json!([]), json!(null)] {
            assert_eq!(
                refused(&format!("/{list}"), empty),
                format!("{list} is missing from the kubeconfig: there must be exactly one entry")
            );
        }
        assert!(
            refused(&format!("/{list}"), json!(CANARY)).starts_with(&format!("{list} of the kubeconfig is not a list"))
        );
        assert!(
            refused(&format!("/{list}"), json!([CANARY]))
                .starts_with(&format!("{list}[0] of the kubeconfig is not a mapping"))
        );
    }
    assert!(
        refused("/current-context", json!(CANARY)).starts_with("current-context of the kubeconfig must be the name")
    );
    assert!(refused("/current-context", json!(null)).starts_with("current-context is missing"));
    assert!(
        refused("/contexts/0/context/cluster", json!(CANARY))
            .starts_with("contexts[0].context.cluster of the kubeconfig must be")
    );
    assert!(
        refused("/contexts/0/context/user", json!(CANARY))
            .starts_with("contexts[0].context.user of the kubeconfig must be")
    );
    assert!(refused("/users/0/user", json!(null)).starts_with("users[0].user is missing"));
    assert!(refused("/kind", json!(CANARY)).starts_with("kind of the kubeconfig is not that of a kubeconfig"));
}

#[test]
fn a01_a02_servers_that_are_never_dialled() {
    for (server, why) in [
        ("http://172.30.0.3:6443", "does not begin with https://"),
        ("172.30.0.3:6443", "does not begin with https://"),
        ("unix:///run/x", "is not a URL"),
        ("https://", "is not a URL"),
        ("", "is missing"),
        ("https://canary-4f7a@172.30.0.3", "carries a user name"),
        ("https://172.30.0.3?x=canary-4f7a", "has a query"),
        ("https://172.30.0.3#canary-4f7a", "has a query"),
        ("https://172.30.0.3:0", "has no port"),
        ("https://172.30.0.3:65536", "has no port"),
        ("https://172.30.0.3:", "has no port"),
        ("https://127.0.0.1:6443", "loopback"),
        ("https://[::1]:6443", "loopback"),
        ("https://[::ffff:127.0.0.1]", "never dialled"),
        ("https://localhost:6443", "loopback"),
        ("https://LocalHost.", "loopback"),
        ("https://x.localhost", "loopback"),
        ("https://127.1", "neither a DNS name"),
        ("https://0x7f.0.0.1", "neither a DNS name"),
        ("https://0x7f000001", "neither a DNS name"),
        ("https://2130706433", "neither a DNS name"),
        ("https://0177.0.0.1", "neither a DNS name"),
        ("https://169.254.169.254", "never dialled"),
        ("https://[fd00:ec2::254]", "never dialled"),
        ("https://[fe80::1]", "never dialled"),
        ("https://0.0.0.0", "never dialled"),
        ("https://224.0.0.1", "never dialled"),
        ("https://under_score!.example", "neither a DNS name"),
        ("https://-x.example", "neither a DNS name"),
    ] {
        let said = refused("/clusters/0/cluster/server", json!(server));
        assert!(said.starts_with("clusters[0].cluster.server ") && said.contains(why), "{server}: {said}");
    }
}

#[test]
fn a_server_behind_a_path_keeps_it() {
    let mut document = good();
    document["clusters"][0]["cluster"]["server"] = json!("https://Rancher.example/k8s/clusters/c-1/");
    let server = parse(&document).unwrap().server;
    assert_eq!((server.authority().as_str(), server.path.as_str()), ("rancher.example:443", "/k8s/clusters/c-1"));
    document["clusters"][0]["cluster"]["server"] = json!("https://[2001:db8::1]:6443");
    assert_eq!(parse(&document).unwrap().server.authority(), "[2001:db8::1]:6443");
}

#[test]
fn tls_server_name_is_inline_and_allowed() {
    let mut document = good();
    document["clusters"][0]["cluster"]["tls-server-name"] = json!("kubernetes.default.svc");
    assert!(parse(&document).unwrap().server_name.is_some());
    assert!(
        refused("/clusters/0/cluster/tls-server-name", json!("canary-4f7a /"))
            .contains("neither a DNS name nor an IP address")
    );
}

#[test]
fn a01_authority_and_identity_must_be_inline_and_whole() {
    let said = |pointer: &str, value: Value| refused(pointer, value);
    let ca = "/clusters/0/cluster/certificate-authority-data";
    assert!(said(ca, json!(null)).starts_with("clusters[0].cluster.certificate-authority-data is missing"));
    assert!(said(ca, json!("canary-4f7a%")).ends_with("is not base64"));
    assert!(said(ca, json!(STANDARD.encode(CANARY))).ends_with("is not base64 of a PEM certificate"));
    let token = "/users/0/user/token";
    assert!(said(token, json!(null)).starts_with("users[0].user.token is missing"));
    assert!(said(token, json!("")).contains("one word of visible ASCII"));
    for bad in ["canary-4f7a x", "canary-4f7a\n", "canary-4f7a\r\nX-Evil: 1", "é-canary-4f7a"] {
        assert!(said(token, json!(bad)).contains("one word of visible ASCII"), "{bad:?}");
    }
    assert!(said(token, json!(1234)).ends_with("is not a text; put it in quotes"));
    let authority = authority();
    let (chain, key) = client_certificate(&authority, 2099);
    assert!(
        said("/users/0/user/client-certificate-data", json!(chain)).starts_with("users[0].user.token is not allowed")
    );
    assert!(
        said("/users/0/user", json!({"client-certificate-data": chain}))
            .starts_with("users[0].user.client-key-data is missing")
    );
    assert!(
        said("/users/0/user", json!({"client-key-data": key}))
            .starts_with("users[0].user.client-certificate-data is missing")
    );
    let (_, other) = client_certificate(&authority, 2099);
    assert!(
        said("/users/0/user", json!({"client-certificate-data": chain, "client-key-data": other}))
            .contains("is not the key of client-certificate-data")
    );
    assert!(
        said("/users/0/user", json!({"client-certificate-data": chain, "client-key-data": STANDARD.encode(CANARY)}))
            .contains("not base64 of a PEM key")
    );
}

#[test]
fn a_client_certificate_says_when_it_runs_out() {
    let (chain, key) = client_certificate(&authority(), 2099);
    let mut document = good();
    document["users"][0]["user"] = json!({"client-certificate-data": chain, "client-key-data": key});
    let credentials = parse(&document).unwrap();
    assert!(credentials.authorization.is_none());
    let at: Timestamp = "2099-01-02T00:00:00Z".parse().unwrap();
    assert_eq!(credentials.expires_at, Some(at));
    let second = jiff::SignedDuration::from_secs(1);
    assert_eq!(credentials.check_expiry(at - second), Ok(()));
    let expired = credentials.check_expiry(at).unwrap_err();
    assert_eq!(expired.reason(), Reason::CredentialsExpired);
    assert_eq!(
        expired.to_string(),
        "the credential ran out at 2099-01-02T00:00:00Z; issue another one: heliostat link NAME --renew"
    );
}

#[test]
fn a_jwt_says_when_it_runs_out_and_other_tokens_do_not() {
    let expiry = |token: &str| {
        let mut document = good();
        document["users"][0]["user"]["token"] = json!(token);
        parse(&document).unwrap().expires_at
    };
    let claims = |text: &str| format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text));
    assert_eq!(expiry(&claims("{\"exp\": 4070995200}")), Some("2099-01-02T00:00:00Z".parse().unwrap()));
    for without in [
        "opaque".to_owned(),
        "a.b.c".into(),
        claims("{}"),
        claims("[]"),
        claims("{\"exp\": \"x\"}"),
        claims("{\"exp\": 9223372036854775807}"),
    ] {
        assert_eq!(expiry(&without), None, "{without}");
    }
}

#[test]
fn a01_duplicate_keys_anchors_aliases_tags_and_several_documents_are_refused() {
    let unreadable = |yaml: &str| {
        let said = error(yaml.as_bytes());
        assert!(said.starts_with("the kubeconfig cannot be read at line "), "{said}");
        said
    };
    assert!(unreadable("apiVersion: v1\nkind: Config\nkind: canary-4f7a\n").contains("line 3: a key is given twice"));
    assert!(unreadable("users:\n- name: a\n  name: canary-4f7a\n").contains("a key is given twice"));
    assert!(unreadable("a: &x canary-4f7a\nb: *x\n").contains("anchors, aliases"));
    assert!(unreadable("a: &x canary-4f7a\n").contains("anchors, aliases"));
    assert!(unreadable("base: {a: 1}\nb:\n  <<: {a: canary-4f7a}\n").contains("merge keys"));
    unreadable("kind: Config\n---\nkind: canary-4f7a\n");
    unreadable("kind: !!python/object canary-4f7a\n");
    unreadable("kind: !include canary-4f7a\n");
    unreadable("{unclosed: canary-4f7a");
    unreadable("kind:\n\t- canary-4f7a\n  x: y");
    assert!(error(b"\xff\xfe").contains("not UTF-8"));
    for odd in ["", "null", "7", "canary-4f7a", "[]"] {
        error(odd.as_bytes());
    }
}

#[test]
fn a14_a_value_in_the_place_of_a_name_is_not_shown() {
    for name in [CANARY, "", " ", "\u{1b}[2J", &"x".repeat(300)] {
        let mut document = good();
        document["users"][0]["user"] = json!({name: null});
        assert_eq!(
            error(document.to_string().as_bytes()),
            "users[0].user.(a name that is not shown) is not allowed in the kubeconfig of a link: nobody knows this field; remove it"
        );
    }
    let forgotten = good().to_string().replace("\"token\":", "");
    error(forgotten.as_bytes());
}

#[test]
fn a01_bombs_and_giants_are_refused_before_they_are_held() {
    let bomb: String = std::iter::once("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned())
        .chain((1..20).map(|n| format!("a{n}: &a{n} [{0},{0},{0},{0},{0},{0},{0},{0},{0}]\n", format!("*a{}", n - 1))))
        .collect();
    assert!(error(bomb.as_bytes()).contains("anchors, aliases"));
    assert!(error(format!("a: {}1{}", "[".repeat(5000), "]".repeat(5000)).as_bytes()).contains("cannot be read"));
    assert!(error(format!("a: [{}1]", "1,".repeat(50_000)).as_bytes()).contains("cannot be read"));
    assert_eq!(
        error(&vec![b'x'; 10 << 20]),
        "the kubeconfig has 10485760 bytes and at most 262144 are read; keep one cluster, user and context in it"
    );
}
