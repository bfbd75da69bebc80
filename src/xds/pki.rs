//! The certificates by which the controller and its Envoys know each other: an authority of their
//! own, one certificate for the server, one for the Envoys of each binding. Never stores them, never
//! reads a clock, and never shows a key.
//!
//! Who stores them renews each when it is [due](is_due). A new authority is added to what both sides
//! trust before the old one goes: what is trusted is always a list.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const DAY: u64 = 24 * 60 * 60;
/// How long an authority is good for. It signs what is renewed by itself, so only its own renewal is
/// ever noticed.
const AUTHORITY: Duration = Duration::from_secs(10 * 365 * DAY);
/// How long a certificate is good for; renewed after twenty days, it bears a controller that is
/// away for ten.
const LEAF: Duration = Duration::from_secs(30 * DAY);
/// How far the clocks of pods may be apart.
const SKEW: Duration = Duration::from_secs(300);

/// Why something of a certificate failed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// What was stored is no certificate, or not one that can be used so.
    #[error(
        "the stored {what} cannot be used: {why}; delete the Secret that holds it, and the controller makes a new one"
    )]
    Unusable {
        /// What.
        what: &'static str,
        /// Why, without its content.
        why: String,
    },
    /// A certificate could not be made.
    #[error("cannot make the {what}: {source}")]
    Making {
        /// What.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
}

fn unusable(what: &'static str, why: impl ToString) -> PkiError {
    PkiError::Unusable { what, why: why.to_string() }
}

fn making(what: &'static str) -> impl Fn(rcgen::Error) -> PkiError {
    move |source| PkiError::Making { what, source }
}

/// A certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key: a secret.
    pub key: String,
}

/// The authority that signs for both sides.
pub struct Authority {
    identity: Identity,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`PkiError::Making`].
    pub fn new(now: Timestamp) -> Result<Self, PkiError> {
        let making = making("authority");
        let mut params = valid(CertificateParams::default(), now, AUTHORITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        // Its own name, so that nobody mistakes an old authority for a new one.
        params.distinguished_name = common_name(&format!("heliostat gateways since {now}"));
        let key = KeyPair::generate().map_err(&making)?;
        let certificate = params.self_signed(&key).map_err(&making)?.pem();
        let identity = Identity { certificate, key: key.serialize_pem() };
        Ok(Self { identity, issuer: Issuer::new(params, key) })
    }

    /// The one that was stored.
    ///
    /// # Errors
    /// [`PkiError::Unusable`].
    pub fn from_pem(identity: Identity) -> Result<Self, PkiError> {
        let what = "authority";
        let key = KeyPair::from_pem(&identity.key).map_err(|error| unusable(what, error))?;
        let is_its_key = with_certificate(what, &identity.certificate, |certificate| {
            Ok(certificate.is_ca() && *certificate.public_key().raw == *key.subject_public_key_info())
        })?;
        if !is_its_key {
            return Err(unusable(what, "the key is not that of the certificate, or the certificate is no authority's"));
        }
        let issuer = Issuer::from_ca_cert_pem(&identity.certificate, key).map_err(|error| unusable(what, error))?;
        Ok(Self { identity, issuer })
    }

    /// What is to be stored, and read back by [`Self::from_pem`].
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Makes a certificate for the server under these DNS names or addresses.
    ///
    /// # Errors
    /// [`PkiError::Making`], also for a name that is none.
    pub fn issue_server(&self, names: &[String], now: Timestamp) -> Result<Identity, PkiError> {
        self.issue("server's certificate", "heliostat", names, ExtendedKeyUsagePurpose::ServerAuth, now)
    }

    /// Makes a certificate for the Envoys of a binding; its one name is the binding's.
    ///
    /// # Errors
    /// [`PkiError::Making`].
    pub fn issue_client(&self, binding: &str, now: Timestamp) -> Result<Identity, PkiError> {
        let names = [binding.to_owned()];
        self.issue("gateway's certificate", "heliostat gateway", &names, ExtendedKeyUsagePurpose::ClientAuth, now)
    }

    /// Whether this authority signed a certificate.
    ///
    /// # Errors
    /// [`PkiError::Unusable`].
    pub fn has_issued(&self, certificate: &str) -> Result<bool, PkiError> {
        with_certificate("authority", &self.identity.certificate, |authority| {
            with_certificate("certificate", certificate, |issued| {
                Ok(issued.verify_signature(Some(authority.public_key())).is_ok())
            })
        })
    }

    fn issue(
        &self,
        what: &'static str,
        subject: &str,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
        now: Timestamp,
    ) -> Result<Identity, PkiError> {
        let making = making(what);
        let mut params = valid(CertificateParams::new(names).map_err(&making)?, now, LEAF);
        params.distinguished_name = common_name(subject);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(&making)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(&making)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn valid(mut params: CertificateParams, now: Timestamp, time: Duration) -> CertificateParams {
    // Certificates know whole seconds.
    let since_1970 = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_1970.saturating_sub(SKEW);
    params.not_after = epoch + since_1970 + time;
    params
}

/// When a certificate (PEM) runs out.
///
/// # Errors
/// [`PkiError::Unusable`].
pub fn expires_at(certificate: &str) -> Result<Timestamp, PkiError> {
    Ok(validity(certificate)?.1)
}

/// When a certificate (PEM) was made, but for what clocks may be apart.
///
/// # Errors
/// [`PkiError::Unusable`].
pub fn made_at(certificate: &str) -> Result<Timestamp, PkiError> {
    Ok(validity(certificate)?.0)
}

/// Whether a certificate (PEM) is to be renewed: when two thirds of its time have passed.
///
/// # Errors
/// [`PkiError::Unusable`].
pub fn is_due(certificate: &str, now: Timestamp) -> Result<bool, PkiError> {
    let (from, to) = validity(certificate)?;
    Ok(now.as_second() >= from.as_second() + (to.as_second() - from.as_second()) / 3 * 2)
}

/// The names that a certificate (PEM) is for.
///
/// # Errors
/// [`PkiError::Unusable`].
pub fn names(certificate: &str) -> Result<BTreeSet<String>, PkiError> {
    let der = first("certificate", certificate)?;
    names_of(&der).map_err(|why| unusable("certificate", why))
}

/// The DNS names that a certificate is for.
pub(super) fn names_of(certificate: &CertificateDer<'_>) -> Result<BTreeSet<String>, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let extension = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    let dns = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Ok(dns.collect())
}

fn validity(certificate: &str) -> Result<(Timestamp, Timestamp), PkiError> {
    let what = "certificate";
    with_certificate(what, certificate, |certificate| {
        let time = |seconds| Timestamp::from_second(seconds).map_err(|error| unusable(what, error));
        let validity = certificate.validity();
        Ok((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
    })
}

fn first(what: &'static str, pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(what, error))
}

fn with_certificate<T>(
    what: &'static str,
    pem: &str,
    read: impl FnOnce(&X509Certificate<'_>) -> Result<T, PkiError>,
) -> Result<T, PkiError> {
    let der = first(what, pem)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| unusable(what, error))?;
    read(&certificate)
}

/// The server's side of TLS 1.3: its identity, and the authorities (PEM, one after another) whose
/// clients it lets in.
///
/// # Errors
/// [`PkiError::Unusable`].
pub fn server_config(identity: &Identity, trusted: &str) -> Result<ServerConfig, PkiError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        let added = authority.map_err(|error| error.to_string()).map(|authority| roots.add(authority));
        added.and_then(|added| added.map_err(|error| error.to_string())).map_err(|why| unusable("authority", why))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.build().map_err(|error| unusable("authority", error))?;
    let what = "server's certificate";
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|error| unusable(what, error))?;
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(|error| unusable(what, error))?.with_client_cert_verifier(verifier);
    let mut config = builder
        .with_single_cert(vec![first(what, &identity.certificate)?], key)
        .map_err(|error| unusable(what, error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + i64::try_from(second).unwrap()).unwrap()
    }

    #[test]
    fn a_stored_authority_goes_on_signing() {
        let made = Authority::new(at(0)).unwrap();
        let read = Authority::from_pem(made.identity().clone()).unwrap();
        let client = read.issue_client("public", at(1)).unwrap();
        assert!(made.has_issued(&client.certificate).unwrap());
        assert!(!Authority::new(at(0)).unwrap().has_issued(&client.certificate).unwrap());
        assert_eq!(names(&client.certificate).unwrap(), BTreeSet::from(["public".to_owned()]));
    }

    #[test]
    fn the_key_of_another_authority_is_refused() {
        let (one, two) = (Authority::new(at(0)).unwrap(), Authority::new(at(0)).unwrap());
        let mixed = Identity { certificate: one.identity().certificate.clone(), key: two.identity().key.clone() };
        let error = Authority::from_pem(mixed).err().unwrap().to_string();
        assert!(error.contains("the key is not that of the certificate"), "{error}");
        let leaf = one.issue_client("public", at(0)).unwrap();
        assert!(Authority::from_pem(leaf).is_err());
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_time() {
        let authority = Authority::new(at(0)).unwrap();
        let server = authority.issue_server(&["heliostat.example".to_owned()], at(0)).unwrap();
        assert_eq!(expires_at(&server.certificate).unwrap(), at(30 * DAY));
        assert_eq!(at(0).duration_since(made_at(&server.certificate).unwrap()).unsigned_abs(), SKEW);
        assert!(!is_due(&server.certificate, at(19 * DAY)).unwrap());
        assert!(is_due(&server.certificate, at(20 * DAY)).unwrap());
        let own = &authority.identity().certificate;
        assert_eq!(expires_at(own).unwrap(), at(3650 * DAY));
        assert!(!is_due(own, at(2400 * DAY)).unwrap());
        assert!(is_due(own, at(2434 * DAY)).unwrap());
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none_and_not_shown() {
        for text in ["", "secret stuff", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let error = expires_at(text).unwrap_err().to_string();
            assert!(error.starts_with("the stored certificate cannot be used"), "{error}");
            assert!(!error.contains("secret stuff"), "{error}");
        }
    }

    #[test]
    fn a_server_may_trust_two_authorities_but_not_none() {
        let (old, new) = (Authority::new(at(0)).unwrap(), Authority::new(at(1)).unwrap());
        let server = new.issue_server(&["heliostat".to_owned()], at(1)).unwrap();
        let both = format!("{}{}", old.identity().certificate, new.identity().certificate);
        let config = server_config(&server, &both).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
        assert!(server_config(&server, "").is_err());
    }
}
