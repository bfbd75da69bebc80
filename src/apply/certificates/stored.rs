//! What the Secrets hold, and what should be in them next. Pure: never reads a clock, never talks to
//! anybody, and shows no key.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::xds::pki::{self, Authority, Identity, PkiError};

const DAY: u64 = 24 * 60 * 60;
/// How long a new authority is trusted before it signs: until then every gateway has read that it is
/// to be trusted, which takes the kubelet minutes.
const SETTLE: Duration = Duration::from_secs(DAY);
/// How long an authority that signs no more is trusted: what it signed is renewed much earlier.
const FORGET: Duration = Duration::from_secs(40 * DAY);

/// Keys of the data; the first three are those of a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const TRUSTED: &str = "ca.crt";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";

/// The text of each key that is text.
fn texts(secret: &Value) -> BTreeMap<&str, String> {
    let data = secret["data"].as_object().into_iter().flatten();
    let text = |value: &Value| String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok();
    data.filter_map(|(key, value)| Some((key.as_str(), text(value)?))).collect()
}

fn data<'a>(texts: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Map<String, Value> {
    let encode = |text: Option<&str>| text.map_or(Value::Null, |text| json!(STANDARD.encode(text)));
    texts.into_iter().map(|(key, text)| (key.to_owned(), encode(text))).collect()
}

/// The authority, and which ones are trusted.
pub(super) struct Trust {
    /// Signs.
    pub(super) authority: Authority,
    /// Will sign, and is trusted already.
    next: Option<Authority>,
    /// All authorities that are trusted (PEM, one after another).
    pub(super) trusted: String,
}

impl Trust {
    /// The first one.
    pub(super) fn new(now: Timestamp) -> Result<Self, PkiError> {
        let authority = Authority::new(now)?;
        let trusted = authority.identity().certificate.clone();
        Ok(Self { authority, next: None, trusted })
    }

    /// The one that a Secret holds.
    pub(super) fn read(secret: &Value) -> Result<Self, PkiError> {
        let mut texts = texts(secret);
        let mut take = |key| texts.remove(key).unwrap_or_default();
        let authority = Authority::from_pem(Identity { certificate: take(CERTIFICATE), key: take(KEY) })?;
        let (next, trusted) = (Identity { certificate: take(NEXT_CERTIFICATE), key: take(NEXT_KEY) }, take(TRUSTED));
        let next = match next.certificate.as_str() {
            "" => None,
            _ => Some(Authority::from_pem(next)?),
        };
        let trusted = if trusted.is_empty() { authority.identity().certificate.clone() } else { trusted };
        Ok(Self { authority, next, trusted })
    }

    /// What is to be stored.
    pub(super) fn data(&self) -> Map<String, Value> {
        let (identity, next) = (self.authority.identity(), self.next.as_ref().map(Authority::identity));
        data([
            (CERTIFICATE, Some(identity.certificate.as_str())),
            (KEY, Some(&identity.key)),
            (TRUSTED, Some(&self.trusted)),
            (NEXT_CERTIFICATE, next.map(|next| next.certificate.as_str())),
            (NEXT_KEY, next.map(|next| next.key.as_str())),
        ])
    }

    /// What follows by time: a successor is made and trusted, then signs, then the old one is
    /// trusted no more. None: it is good as it is.
    pub(super) fn step(self, now: Timestamp) -> Result<Result<Self, Self>, PkiError> {
        let certificate = &self.authority.identity().certificate;
        match self.next {
            Some(next) if passed(SETTLE, &next, now)? => {
                let trusted = format!("{}{certificate}", next.identity().certificate);
                Ok(Ok(Self { authority: next, next: None, trusted }))
            }
            None if pki::is_due(certificate, now)? => {
                let next = Authority::new(now)?;
                let trusted = format!("{certificate}{}", next.identity().certificate);
                Ok(Ok(Self { authority: self.authority, next: Some(next), trusted }))
            }
            None if self.trusted != *certificate && passed(FORGET, &self.authority, now)? => {
                let trusted = certificate.clone();
                Ok(Ok(Self { authority: self.authority, next: None, trusted }))
            }
            _ => Ok(Err(self)),
        }
    }

    /// The data of a new certificate for the Envoys of a binding.
    pub(super) fn issue(&self, binding: &str, now: Timestamp) -> Result<Map<String, Value>, PkiError> {
        let Identity { certificate, key } = self.authority.issue_client(binding, now)?;
        Ok(data([(CERTIFICATE, Some(certificate.as_str())), (KEY, Some(&key)), (TRUSTED, Some(&self.trusted))]))
    }

    /// Whether a Secret holds a certificate by which the Envoys of a binding are let in for a while.
    pub(super) fn is_good(&self, secret: &Value, binding: &str, now: Timestamp) -> bool {
        let texts = texts(secret);
        let text = |key| texts.get(key).map(String::as_str).unwrap_or_default();
        let certificate = text(CERTIFICATE);
        let holds = || -> Result<bool, PkiError> {
            Ok(self.authority.has_issued(certificate)?
                && !pki::is_due(certificate, now)?
                && pki::names(certificate)?.contains(binding))
        };
        text(TRUSTED) == self.trusted && !text(KEY).is_empty() && holds().unwrap_or(false)
    }
}

fn passed(time: Duration, authority: &Authority, now: Timestamp) -> Result<bool, PkiError> {
    let since = pki::made_at(&authority.identity().certificate)?;
    Ok(now.duration_since(since).unsigned_abs() >= time && now > since)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + i64::try_from(day * DAY).unwrap()).unwrap()
    }

    fn secret(data: Map<String, Value>) -> Value {
        let data: Map<String, Value> = data.into_iter().filter(|(_, value)| !value.is_null()).collect();
        json!({"data": data})
    }

    fn stored(trust: &Trust) -> Trust {
        Trust::read(&secret(trust.data())).unwrap()
    }

    fn stepped(trust: Trust, day: u64) -> Trust {
        trust.step(at(day)).unwrap().unwrap_or_else(|_| panic!("nothing was due on day {day}"))
    }

    fn unchanged(trust: Trust, day: u64) -> Trust {
        trust.step(at(day)).unwrap().err().unwrap_or_else(|| panic!("something was due on day {day}"))
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let trust = Trust::new(at(0)).unwrap();
        let read = stored(&trust);
        assert!(read.authority.identity() == trust.authority.identity() && read.trusted == trust.trusted);
        assert!(Trust::read(&json!({})).is_err());
        assert!(Trust::read(&json!({"data": {"tls.crt": "!", "tls.key": 7}})).is_err());
    }

    #[test]
    fn a_certificate_is_good_until_two_thirds_of_its_time_for_its_binding_and_its_authority() {
        let trust = Trust::new(at(0)).unwrap();
        let public = secret(trust.issue("public", at(0)).unwrap());
        assert!(trust.is_good(&public, "public", at(19)));
        assert!(!trust.is_good(&public, "public", at(21)));
        assert!(!trust.is_good(&public, "other", at(1)));
        assert!(!Trust::new(at(0)).unwrap().is_good(&public, "public", at(1)));
        for missing in ["tls.crt", "tls.key", "ca.crt"] {
            let mut broken = public.clone();
            broken["data"].as_object_mut().unwrap().remove(missing);
            assert!(!trust.is_good(&broken, "public", at(1)), "{missing}");
        }
        assert!(!trust.is_good(&json!(null), "public", at(1)));
    }

    #[test]
    fn a_new_authority_is_trusted_before_it_signs_and_the_old_one_after_it_did() {
        let first = unchanged(Trust::new(at(0)).unwrap(), 2000);
        let old = first.authority.identity().certificate.clone();
        let client = secret(first.issue("public", at(2434)).unwrap());

        let waiting = stored(&stepped(first, 2434));
        assert!(waiting.authority.identity().certificate == old && waiting.trusted.starts_with(&old));
        assert!(waiting.trusted != old, "the new one is trusted too");
        assert!(!waiting.is_good(&client, "public", at(2434)), "it does not trust the new one yet");
        let client = secret(waiting.issue("public", at(2434)).unwrap());
        assert!(waiting.is_good(&client, "public", at(2434)));
        let waiting = unchanged(waiting, 2434);

        let second = stored(&stepped(waiting, 2436));
        let new = second.authority.identity().certificate.clone();
        assert!(new != old && second.trusted == format!("{new}{old}"));
        assert!(!second.is_good(&client, "public", at(2436)), "it is to be signed anew");
        let second = unchanged(second, 2470);

        let alone = stored(&stepped(second, 2480));
        assert!(alone.trusted == new);
        unchanged(alone, 2481);
    }
}
