//! What answers mean. Pure. Where an answer could be the gateway's own or a Service's, it is compared with
//! what the gateway answers for a name that nobody has.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{
    answer::{Answer, Ask, Question},
    book::{Book, Verdict},
};

const EXPORTED_PORT: &str = "an exported port answers";
const EXPORTED_NAME: &str = "an exported name is answered";
const OTHER_PORT: &str = "a port that is not exported is refused";
const OTHER_NAME: &str = "a name that is not exported is refused";

/// Statuses by which a gateway says that it knows no such name: not found, misdirected, unavailable.
const UNKNOWN: [u16; 3] = [404, 421, 503];
/// Kubernetes' default range of node ports.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// What was published of the exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// All that is published.
    All,
    /// Only what is in the namespaces that the link reads.
    OfSomeNamespaces,
}

/// Judges all answers.
pub(super) fn judge(answers: &[(Ask, Answer)], known: Known, book: &mut Book) {
    let judge = Judge { answers, known };
    for (ask, answer) in answers {
        let check = match (&ask.question, ask.exported) {
            (Question::Http(..) | Question::Tls(_), true) => EXPORTED_NAME,
            (Question::Http(..) | Question::Tls(_), false) => OTHER_NAME,
            (_, true) => EXPORTED_PORT,
            (_, false) => OTHER_PORT,
        };
        let (verdict, detail) = if ask.exported { judge.exported(ask, answer) } else { judge.other(ask, answer) };
        book.add(check, &ask.subject, verdict, detail);
    }
}

struct Judge<'a> {
    answers: &'a [(Ask, Answer)],
    known: Known,
}

type Judgement = (Verdict, String);

fn fail(why: impl Into<String>) -> Judgement {
    (Verdict::Fail, why.into())
}

fn well(what: impl Into<String>) -> Judgement {
    (Verdict::Ok, what.into())
}

fn no_route() -> Judgement {
    (Verdict::Warn, "not exercised: this machine has no route there; run it in a pod, or on a node".to_owned())
}

impl Judge<'_> {
    fn exported(&self, ask: &Ask, answer: &Answer) -> Judgement {
        match answer {
            Answer::NoRoute => no_route(),
            Answer::Refused(how) => fail(how),
            Answer::Silent => fail("no answer within the deadline"),
            Answer::Closed => fail("the connection is taken and closed at once; is there a route, and a backend?"),
            Answer::Kept => well("takes connections and keeps them"),
            Answer::Http { status, shape } => self.exported_http(ask.to, *status, shape),
            Answer::Other(what) => fail(format!("what answers is something else: {what}")),
            Answer::Certificate(_) => well("greets with a certificate"),
            Answer::Alert { unknown_name: true, name } => fail(format!("refused by TLS alert {name}")),
            Answer::Alert { name, .. } => (
                Verdict::Warn,
                format!("a TLS alert {name} instead of a certificate; is that the Service's, or the gateway's?"),
            ),
        }
    }

    /// A Service may well say 404 itself; a gateway says it to everybody alike.
    fn exported_http(&self, to: SocketAddr, status: u16, shape: &str) -> Judgement {
        match status {
            503 => fail("503: is there a backend? If the Service says so itself, name something by --path that it has"),
            404 if self.shapes_of_nobody(to).contains(shape) => fail(
                "404, as for a name that nobody has; if the Service says so itself, name something by --path that it has",
            ),
            404 => well("404, and otherwise than for a name that nobody has: it is the Service's"),
            status => well(status.to_string()),
        }
    }

    fn other(&self, ask: &Ask, answer: &Answer) -> Judgement {
        match answer {
            Answer::NoRoute => no_route(),
            Answer::Refused(how) => well(how),
            Answer::Silent => well("no answer"),
            Answer::Closed => well("closed without a byte"),
            Answer::Http { status, .. } if UNKNOWN.contains(status) => well(status.to_string()),
            Answer::Http { status, .. } => self.open(ask, &format!("answers {status}")),
            Answer::Kept => self.open(ask, "takes connections and keeps them"),
            Answer::Other(what) => self.open(ask, &format!("answers something else: {what}")),
            Answer::Alert { name, .. } => well(format!("TLS alert {name}")),
            Answer::Certificate(shown) if self.certificates_of_exported(ask.to).contains(shown.as_slice()) => {
                fail("greets with the certificate of an exported Service: any name leads to it")
            }
            Answer::Certificate(_) => (
                Verdict::Warn,
                "greets with a certificate, of none of the exported Services; is it the gateway's own?".to_owned(),
            ),
        }
    }

    /// Something answers where nothing should.
    fn open(&self, ask: &Ask, how: &str) -> Judgement {
        if !matches!(ask.question, Question::NobodysPort(_)) {
            return fail(how);
        }
        if self.known == Known::OfSomeNamespaces {
            let detail = format!("{how}; the link reads some namespaces only, so somebody else may have published it");
            return (Verdict::Warn, detail);
        }
        if NODE_PORTS.contains(&ask.to.port()) {
            return (Verdict::Warn, format!("{how}; it may be the node port of another Service"));
        }
        fail(format!("{how}, and nobody publishes it"))
    }

    fn shapes_of_nobody(&self, to: SocketAddr) -> BTreeSet<&str> {
        self.answers
            .iter()
            .filter(|(ask, _)| ask.to == to && !ask.exported)
            .filter_map(|(_, answer)| match answer {
                Answer::Http { shape, .. } => Some(shape.as_str()),
                _ => None,
            })
            .collect()
    }

    fn certificates_of_exported(&self, to: SocketAddr) -> BTreeSet<&[u8]> {
        self.answers
            .iter()
            .filter(|(ask, _)| ask.to == to && ask.exported)
            .filter_map(|(_, answer)| match answer {
                Answer::Certificate(shown) => Some(shown.as_slice()),
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
