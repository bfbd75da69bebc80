use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpListener,
};

use super::*;
use crate::core::reach::{Ask, ProbeTerms};

const UID: &str = "1b9f4c0a-0000-4000-8000-0123456789ab";
const OTHER: &str = "2c8e5d1b-0000-4000-8000-0123456789ab";

/// What is at an address.
#[derive(Clone)]
enum There {
    /// Nothing, and it says so.
    Refusal,
    /// Nothing that ever answers.
    Nothing,
    /// It accepts and closes.
    Closes,
    /// It accepts and is silent.
    Listens,
    /// It answers so, whatever is asked.
    Says(String),
    /// It answers without an end.
    Babbles,
}

fn http(status: &str, body: &str) -> There {
    There::Says(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

fn uid(uid: &str) -> There {
    http("200 OK", &format!("{uid}\n"))
}

/// A network in memory; of each request the first kilobyte is kept.
#[derive(Clone, Default)]
struct Network(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    there: BTreeMap<SocketAddr, There>,
    dialled: Vec<(SocketAddr, Instant)>,
    heard: Vec<String>,
    /// Nothing gets through.
    cut: bool,
}

impl Network {
    fn put(&self, address: &str, there: There) {
        self.0.lock().unwrap().there.insert(address.parse().unwrap(), there);
    }

    fn cut(&self, cut: bool) {
        self.0.lock().unwrap().cut = cut;
    }

    fn dialled(&self, address: &str) -> Vec<Instant> {
        let address: SocketAddr = address.parse().unwrap();
        let state = self.0.lock().unwrap();
        state.dialled.iter().filter(|(to, _)| *to == address).map(|(_, at)| *at).collect()
    }
}

impl Dial for Network {
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let there = {
                let mut state = self.0.lock().unwrap();
                state.dialled.push((to, Instant::now()));
                if state.cut { There::Nothing } else { state.there.get(&to).cloned().unwrap_or(There::Refusal) }
            };
            let (mine, mut theirs) = duplex(4096);
            match there {
                There::Refusal => return Err(io::ErrorKind::ConnectionRefused.into()),
                There::Nothing => std::future::pending().await,
                There::Closes => {}
                There::Listens => drop(tokio::spawn(async move {
                    let _theirs = theirs;
                    std::future::pending::<()>().await;
                })),
                There::Babbles => drop(tokio::spawn(async move {
                    let _ = theirs.read(&mut [0; 1024]).await;
                    let _ = theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                    while theirs.write_all(&[b'1'; 1024]).await.is_ok() {}
                })),
                There::Says(text) => {
                    let state = self.0.clone();
                    tokio::spawn(async move {
                        let mut request = [0; 1024];
                        let length = theirs.read(&mut request).await.unwrap();
                        let request = String::from_utf8_lossy(&request[..length]).into_owned();
                        state.lock().unwrap().heard.push(request);
                        let _ = theirs.write_all(text.as_bytes()).await;
                    });
                }
            }
            Ok(Box::new(mine) as Box<dyn Stream>)
        })
    }
}

fn target(address: &str) -> Target {
    Target { link: "east".into(), binding: "public".into(), address: address.parse().unwrap() }
}

fn terms() -> ProbeTerms {
    ProbeTerms { period: Duration::from_secs(10), timeout: Duration::from_secs(2), failure_threshold: 3 }
}

fn content(port: u16, host: Option<&str>) -> ProbeTask {
    ProbeTask { ask: Ask::ClusterUid { port, host: host.map(str::to_owned), uid: UID.into() }, terms: terms() }
}

fn connection(port: u16) -> ProbeTask {
    ProbeTask { ask: Ask::Connection { port, meanwhile: false }, terms: terms() }
}

struct Rig {
    network: Network,
    wanted: watch::Sender<BTreeMap<Target, ProbeTask>>,
    inputs: mpsc::Receiver<Input>,
}

impl Rig {
    fn start() -> Self {
        let network = Network::default();
        let (wanted, list) = watch::channel(BTreeMap::new());
        let (out, inputs) = mpsc::channel(64);
        let dial: Arc<dyn Dial> = Arc::new(network.clone());
        let prober = Prober { dial, out, seen: Seen::default(), running: BTreeMap::new() };
        tokio::spawn(prober.keep(list));
        Self { network, wanted, inputs }
    }

    fn probe(&self, tasks: &[(&str, ProbeTask)]) {
        self.wanted.send_replace(tasks.iter().map(|(address, task)| (target(address), task.clone())).collect());
    }

    /// What is said within that many seconds: the address, and `up`, `down: …`, `failing: …` (others of
    /// its binding do not answer either) or `silent: …`.
    async fn heard(&mut self, seconds: u64) -> Vec<(String, String)> {
        sleep(Duration::from_secs(seconds)).await;
        let mut heard = Vec::new();
        while let Ok(input) = self.inputs.try_recv() {
            let Input::Probed { target, verdict } = input else { panic!("{input:?}") };
            let verdict = match verdict {
                Verdict::Reachable => "up".to_owned(),
                Verdict::Unreachable { why, others_answer: true } => format!("down: {why}"),
                Verdict::Unreachable { why, others_answer: false } => format!("failing: {why}"),
                Verdict::Silent(why) => format!("silent: {why}"),
            };
            heard.push((target.address.to_string(), verdict));
        }
        heard
    }
}

fn said(address: &str, verdict: &str) -> (String, String) {
    (address.to_owned(), verdict.to_owned())
}

/// The latest that three failures may take, with jitter, from when they begin.
const THREE: u64 = 40;

#[tokio::test(start_paused = true)]
async fn an_address_behind_which_the_cluster_answers_is_reachable_and_that_is_said_once() {
    let mut rig = Rig::start();
    rig.network.put("10.0.0.1:20001", uid(UID));
    rig.network.put("[2001:db8::1]:20001", uid(UID));
    rig.probe(&[("10.0.0.1", content(20001, None)), ("2001:db8::1", content(20001, Some("heliostat-probe-east")))]);
    let mut heard = rig.heard(2).await;
    heard.sort();
    assert_eq!(heard, [said("10.0.0.1", "up"), said("2001:db8::1", "up")]);
    assert_eq!(rig.heard(1000).await, []);
    let asked = rig.network.0.lock().unwrap().heard.clone();
    let by = |host: &str| asked.iter().filter(|r| r.contains(&format!("host: {host}\r\n"))).count();
    assert_eq!(by("10.0.0.1:20001") + by("heliostat-probe-east"), asked.len());
    assert!(asked.iter().all(|request| request.starts_with("GET /probe HTTP/1.1\r\n")), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn probes_keep_their_period_within_a_tenth() {
    let mut rig = Rig::start();
    rig.network.put("10.0.0.1:443", There::Closes);
    rig.probe(&[("10.0.0.1", connection(443))]);
    rig.heard(2000).await;
    let times = rig.network.dialled("10.0.0.1:443");
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*least >= Duration::from_millis(8990) && *most <= Duration::from_millis(11_010), "{least:?} {most:?}");
    assert!(*most > *least, "no jitter");
}

#[tokio::test(start_paused = true)]
async fn an_address_is_down_after_the_threshold_and_up_after_one_success() {
    let mut rig = Rig::start();
    rig.network.put("10.0.0.1:443", There::Closes);
    rig.network.put("10.0.0.2:443", There::Closes);
    rig.probe(&[("10.0.0.1", connection(443)), ("10.0.0.2", connection(443))]);
    assert_eq!(rig.heard(15).await.len(), 2);
    rig.network.put("10.0.0.2:443", There::Refusal);
    let failed = rig.network.dialled("10.0.0.2:443").len();
    loop {
        let heard = rig.heard(1).await;
        let failures = rig.network.dialled("10.0.0.2:443").len() - failed;
        if !heard.is_empty() {
            assert_eq!(heard, [said("10.0.0.2", "down: port 443: the connection is refused")]);
            assert_eq!(failures, 3);
            break;
        }
        assert!(failures < 3);
    }
    assert_eq!(rig.heard(500).await, []);
    rig.network.put("10.0.0.2:443", There::Closes);
    assert_eq!(rig.heard(12).await, [said("10.0.0.2", "up")]);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_flaps_stays_as_it_is() {
    let mut rig = Rig::start();
    rig.network.put("10.0.0.1:443", There::Closes);
    rig.network.put("10.0.0.2:443", There::Closes);
    rig.probe(&[("10.0.0.1", connection(443)), ("10.0.0.2", connection(443))]);
    rig.heard(2).await;
    for _ in 0..20 {
        let before = rig.network.dialled("10.0.0.2:443").len();
        rig.network.put("10.0.0.2:443", There::Refusal);
        while rig.network.dialled("10.0.0.2:443").len() < before + 2 {
            assert_eq!(rig.heard(1).await, []);
        }
        rig.network.put("10.0.0.2:443", There::Closes);
        while rig.network.dialled("10.0.0.2:443").len() < before + 3 {
            assert_eq!(rig.heard(1).await, []);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn g18_a_listener_with_nothing_behind_it_is_down_by_content_and_up_by_connection() {
    for (there, why) in [
        (There::Closes, "it accepts the connection and gives no answer; is anything behind it?"),
        (There::Listens, "it accepts the connection and gives no answer within 2s; is anything behind it?"),
        (http("404 Not Found", "404 page not found"), "the gateway answers 404 and does not lead to the probe Service"),
        (
            There::Says(format!(
                "HTTP/1.1 302 Found\r\nLocation: http://10.0.0.2:20001/probe\r\nContent-Length: 36\r\n\r\n{UID}"
            )),
            "the gateway answers 302 and does not lead to the probe Service",
        ),
        (There::Says("SSH-2.0-OpenSSH_9.2\r\n".into()), "what answers does not speak HTTP/1.1"),
        (uid(OTHER), &format!("another cluster is behind it, whose kube-system has uid {OTHER} and not {UID}")),
        (http("200 OK", "<html>\u{1b}[31m</html>"), "what answers is not Heliostat's probe Service"),
        (http("200 OK", ""), "what answers is not Heliostat's probe Service"),
        (There::Babbles, "the answer is broken off, or is longer than a uid"),
    ] {
        let mut rig = Rig::start();
        rig.network.put("10.0.0.1:20001", there);
        // Alone: that somebody accepts shows that the prober is not cut off.
        rig.probe(&[("10.0.0.1", content(20001, None))]);
        assert_eq!(rig.heard(12).await, [], "{why}");
        let heard = rig.heard(THREE).await;
        assert!(
            heard.len() == 1 && heard[0].1.starts_with("failing: ") && heard[0].1.ends_with(why),
            "{heard:?}: {why}"
        );
        assert_eq!(rig.network.dialled("10.0.0.2:20001"), [], "a redirect is not followed");
        rig.probe(&[("10.0.0.1", connection(20001))]);
        assert_eq!(rig.heard(3).await, [said("10.0.0.1", "up")], "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_nothing_answers_anywhere_nothing_is_called_unreachable() {
    let mut rig = Rig::start();
    for address in ["10.0.0.1:443", "10.0.0.2:443", "10.0.0.3:443"] {
        rig.network.put(address, There::Closes);
    }
    rig.probe(&[("10.0.0.1", connection(443)), ("10.0.0.2", connection(443)), ("10.0.0.3", connection(443))]);
    rig.heard(15).await;
    rig.network.cut(true);
    let mut heard = rig.heard(1000).await;
    heard.sort();
    let silent = "silent: port 443: no connection within 2s";
    assert_eq!(heard, [said("10.0.0.1", silent), said("10.0.0.2", silent), said("10.0.0.3", silent)]);

    // When it is over, the one that is really gone is told from the others.
    rig.network.put("10.0.0.3:443", There::Nothing);
    rig.network.cut(false);
    let mut heard = rig.heard(60).await;
    heard.sort();
    let down = "down: port 443: no connection within 2s";
    assert_eq!(heard, [said("10.0.0.1", "up"), said("10.0.0.2", "up"), said("10.0.0.3", down)]);

    // And stays so when everything is cut off again.
    rig.network.cut(true);
    let mut heard = rig.heard(1000).await;
    heard.sort();
    assert_eq!(heard, [said("10.0.0.1", silent), said("10.0.0.2", silent)]);
}

#[tokio::test(start_paused = true)]
async fn addresses_that_fail_together_are_no_worse_than_one_another() {
    let mut rig = Rig::start();
    let other = Target { binding: "other".into(), ..target("10.0.0.3") };
    let at = |address: &str| (target(address), content(20001, None));
    rig.wanted.send_replace([at("10.0.0.1"), at("10.0.0.2"), (other, connection(443))].into());
    rig.network.put("10.0.0.3:443", There::Closes);
    rig.network.put("10.0.0.1:20001", uid(UID));
    rig.network.put("10.0.0.2:20001", uid(UID));
    rig.heard(15).await;
    // Whoever is to answer behind both is away, or the way to both is cut, as that to others is not.
    for (there, why) in [
        (There::Closes, "it accepts the connection and gives no answer; is anything behind it?"),
        (There::Nothing, "no connection within 2s"),
    ] {
        rig.network.put("10.0.0.1:20001", there.clone());
        rig.network.put("10.0.0.2:20001", there);
        let mut heard = rig.heard(100).await;
        heard.sort();
        let failing = format!("failing: port 20001: {why}");
        assert_eq!(heard, [said("10.0.0.1", &failing), said("10.0.0.2", &failing)]);
        rig.network.put("10.0.0.1:20001", uid(UID));
        let down = format!("down: port 20001: {why}");
        assert_eq!(rig.heard(60).await, [said("10.0.0.1", "up"), said("10.0.0.2", &down)]);
        rig.network.put("10.0.0.2:20001", uid(UID));
        assert_eq!(rig.heard(12).await, [said("10.0.0.2", "up")]);
    }
}

#[tokio::test(start_paused = true)]
async fn targets_that_are_taken_off_or_changed_are_not_probed_as_before() {
    let mut rig = Rig::start();
    rig.probe(&[("10.0.0.1", connection(443)), ("10.0.0.2", connection(443))]);
    rig.heard(15).await;
    rig.probe(&[("10.0.0.1", connection(8443))]);
    rig.heard(15).await;
    let counts =
        |rig: &Rig| ["10.0.0.1:443", "10.0.0.2:443", "10.0.0.1:8443"].map(|address| rig.network.dialled(address).len());
    let before = counts(&rig);
    assert!(before.iter().all(|count| *count > 0), "{before:?}");
    rig.heard(100).await;
    let after = counts(&rig);
    assert_eq!(after[..2], before[..2]);
    assert!(after[2] > before[2] + 5, "what did not change goes on");
    drop(rig.wanted);
    sleep(Duration::from_secs(1)).await;
    let before = rig.network.0.lock().unwrap().dialled.len();
    sleep(Duration::from_secs(100)).await;
    assert_eq!(rig.network.0.lock().unwrap().dialled.len(), before, "all tasks ended with the prober");
}

#[tokio::test(start_paused = true)]
async fn a_slow_address_delays_no_other() {
    let mut rig = Rig::start();
    rig.network.put("10.0.0.200:443", There::Closes);
    let slow: Vec<String> = (1..100).map(|n| format!("10.0.0.{n}")).collect();
    slow.iter().for_each(|address| rig.network.put(&format!("{address}:443"), There::Nothing));
    let mut tasks: Vec<(&str, ProbeTask)> = slow.iter().map(|address| (address.as_str(), connection(443))).collect();
    tasks.push(("10.0.0.200", connection(443)));
    rig.probe(&tasks);
    assert_eq!(rig.heard(2).await, [said("10.0.0.200", "up")]);
}

#[tokio::test]
async fn real_sockets_are_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address: IpAddr = "127.0.0.1".parse().unwrap();
    let served = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            if stream.read(&mut request).await.unwrap() > 0 {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n{UID}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    assert_eq!(ask::ask(&Tcp, address, &content(port, None)).await, Answer::Good);
    assert_eq!(ask::ask(&Tcp, address, &connection(port)).await, Answer::Good);
    served.await.unwrap();
    let refused = Answer::Silent(format!("port {port}: the connection is refused"));
    assert_eq!(ask::ask(&Tcp, address, &connection(port)).await, refused);
}
