//! Checks as they are made, and how they are told: what is not well one by one, what is well counted.

use serde::Serialize;

/// How a check came out; the later, the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it must be.
    Ok,
    /// Not looked at, and why.
    Note,
    /// It could not be found out, or may be meant.
    Warn,
    /// Not as it must be.
    Fail,
}

impl Verdict {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) check: &'static str,
    /// Of what; none: of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    pub(super) verdict: Verdict,
    pub(super) detail: String,
}

/// The worst verdict; `Ok` where there is none.
pub(super) fn worst(checks: &[Check]) -> Verdict {
    checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok)
}

/// The checks that were made so far.
#[derive(Debug, Default)]
pub(super) struct Book(Vec<Check>);

impl Book {
    pub(super) fn add(&mut self, check: &'static str, subject: &str, verdict: Verdict, detail: impl Into<String>) {
        let subject = Some(subject.to_owned()).filter(|subject| !subject.is_empty());
        self.0.push(Check { check, subject, verdict, detail: detail.into() });
    }

    /// The answer of a check that either holds or does not.
    pub(super) fn hold(&mut self, check: &'static str, subject: &str, answer: Result<String, String>) {
        match answer {
            Ok(detail) => self.add(check, subject, Verdict::Ok, detail),
            Err(why) => self.add(check, subject, Verdict::Fail, why),
        }
    }

    /// Check by check, in the order in which they were first made: what is not well, and then in one line
    /// what is.
    pub(super) fn finish(self) -> Vec<Check> {
        let mut names: Vec<&'static str> = Vec::new();
        for check in &self.0 {
            if !names.contains(&check.check) {
                names.push(check.check);
            }
        }
        let mut told = Vec::new();
        for name in names {
            let (well, not): (Vec<&Check>, Vec<&Check>) =
                self.0.iter().filter(|check| check.check == name).partition(|check| check.verdict == Verdict::Ok);
            told.extend(not.iter().map(|check| (*check).clone()));
            match well.as_slice() {
                [] => {}
                [one] => told.push((*one).clone()),
                several => told.push(Check {
                    check: name,
                    subject: None,
                    verdict: Verdict::Ok,
                    detail: format!("{} of {}", several.len(), several.len() + not.len()),
                }),
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_is_counted_and_what_is_not_is_told_one_by_one() {
        let mut book = Book::default();
        book.hold("labels", "shop/a", Ok("fine".to_owned()));
        book.hold("ports", "shop/a", Ok("80".to_owned()));
        book.hold("labels", "shop/b", Err("none".to_owned()));
        book.hold("labels", "shop/c", Ok(String::new()));
        book.add("labels", "shop/d", Verdict::Note, "not looked at");
        let told = book.finish();
        let lines: Vec<String> = told
            .iter()
            .map(|c| format!("{} {} {} {}", c.check, c.verdict.as_str(), c.subject.as_deref().unwrap_or("*"), c.detail))
            .collect();
        assert_eq!(
            lines,
            ["labels FAIL shop/b none", "labels note shop/d not looked at", "labels ok * 2 of 4", "ports ok shop/a 80"]
        );
        assert_eq!(worst(&told), Verdict::Fail);
        assert_eq!(worst(&[]), Verdict::Ok);
    }
}
