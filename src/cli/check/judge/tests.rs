//! What every answer means, of something exported and of what nobody exports.

use super::*;

fn ask(question: Question, exported: bool, port: u16) -> Ask {
    Ask { to: SocketAddr::from(([203, 0, 113, 10], port)), question, exported, subject: String::new() }
}

fn judged(answers: &[(Ask, Answer)], known: Known) -> Vec<(&'static str, Verdict)> {
    let mut book = Book::default();
    judge(answers, known, &mut book);
    book.finish().into_iter().map(|c| (c.check, c.verdict)).collect()
}

fn verdict(question: Question, exported: bool, answer: Answer) -> Verdict {
    judged(&[(ask(question, exported, 20001), answer)], Known::All)[0].1
}

fn http(status: u16, shape: &str) -> Answer {
    Answer::Http { status, shape: shape.to_owned() }
}

fn alert(unknown_name: bool) -> Answer {
    Answer::Alert { unknown_name, name: "alert".to_owned() }
}

fn get() -> Question {
    Question::Http("a".to_owned(), "/".to_owned())
}

fn greeting() -> Question {
    Question::Tls("a".to_owned())
}

fn nobodys() -> Question {
    Question::NobodysPort("nobody".to_owned())
}

#[test]
fn an_exported_port_must_take_and_keep_a_connection() {
    let of = |answer| verdict(Question::Port, true, answer);
    assert_eq!(of(Answer::Kept), Verdict::Ok);
    for bad in [Answer::Closed, Answer::Silent, Answer::Refused(String::new())] {
        assert_eq!(of(bad.clone()), Verdict::Fail, "{bad:?}");
    }
    assert_eq!(of(Answer::NoRoute), Verdict::Warn);
}

#[test]
fn a_port_that_nobody_exports_must_not_answer() {
    let of = |answer| verdict(nobodys(), false, answer);
    let refused = [Answer::Closed, Answer::Silent, Answer::Refused(String::new()), http(404, ""), http(503, "")];
    for good in refused {
        assert_eq!(of(good.clone()), Verdict::Ok, "{good:?}");
    }
    for bad in [Answer::Kept, http(200, ""), http(302, ""), Answer::Other(String::new())] {
        assert_eq!(of(bad.clone()), Verdict::Fail, "{bad:?}");
    }
}

#[test]
fn who_cannot_see_all_that_is_published_accuses_nobody() {
    let of = |port, known| judged(&[(ask(nobodys(), false, port), Answer::Kept)], known)[0].1;
    assert_eq!(of(20002, Known::All), Verdict::Fail);
    assert_eq!(of(20002, Known::OfSomeNamespaces), Verdict::Warn);
    assert_eq!(of(30002, Known::All), Verdict::Warn, "a node port may be anybody's");
}

#[test]
fn an_exported_name_must_be_answered_by_its_service() {
    let of = |answer| verdict(get(), true, answer);
    for good in [http(200, ""), http(401, ""), http(500, "")] {
        assert_eq!(of(good.clone()), Verdict::Ok, "{good:?}");
    }
    for bad in [http(503, ""), Answer::Closed, Answer::Silent, Answer::Other(String::new())] {
        assert_eq!(of(bad.clone()), Verdict::Fail, "{bad:?}");
    }
}

#[test]
fn a_404_is_the_gateways_when_everybody_gets_the_same() {
    let with = |nobody: Answer| {
        let answers = [(ask(get(), true, 80), http(404, "404 a")), (ask(get(), false, 80), nobody)];
        judged(&answers, Known::All)
    };
    assert_eq!(with(http(404, "404 a")), [(EXPORTED_NAME, Verdict::Fail), (OTHER_NAME, Verdict::Ok)]);
    assert_eq!(with(http(404, "404 b")), [(EXPORTED_NAME, Verdict::Ok), (OTHER_NAME, Verdict::Ok)]);
    let elsewhere = [(ask(get(), true, 80), http(404, "404 a")), (ask(get(), false, 81), http(404, "404 a"))];
    assert_eq!(judged(&elsewhere, Known::All)[0].1, Verdict::Ok, "another listener says nothing of this one");
}

#[test]
fn a_name_that_nobody_exports_must_not_be_answered() {
    for good in [http(404, ""), http(421, ""), http(503, ""), Answer::Closed, Answer::Refused(String::new())] {
        assert_eq!(verdict(get(), false, good.clone()), Verdict::Ok, "{good:?}");
    }
    for bad in [http(200, ""), http(403, ""), Answer::Other(String::new())] {
        assert_eq!(verdict(get(), false, bad.clone()), Verdict::Fail, "{bad:?}");
    }
    for good in [alert(true), alert(false), Answer::Closed] {
        assert_eq!(verdict(greeting(), false, good.clone()), Verdict::Ok, "{good:?}");
    }
}

#[test]
fn a_greeting_is_answered_by_a_certificate() {
    assert_eq!(verdict(greeting(), true, Answer::Certificate(vec![1])), Verdict::Ok);
    assert_eq!(verdict(greeting(), true, alert(true)), Verdict::Fail);
    assert_eq!(verdict(greeting(), true, Answer::Closed), Verdict::Fail);
    assert_eq!(verdict(greeting(), true, alert(false)), Verdict::Warn);
    let with = |shown| {
        let exported = (ask(greeting(), true, 443), Answer::Certificate(vec![1]));
        judged(&[exported, (ask(greeting(), false, 443), Answer::Certificate(shown))], Known::All)[1]
    };
    assert_eq!(with(vec![1]), (OTHER_NAME, Verdict::Fail), "any name leads to the Service");
    assert_eq!(with(vec![2]), (OTHER_NAME, Verdict::Warn), "the gateway's own");
}
