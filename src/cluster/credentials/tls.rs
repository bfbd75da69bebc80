//! Certificates and keys: checked to be whole and to belong together before anything is dialled.

use base64::{Engine, engine::general_purpose};
use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    CredentialsError,
    document::{self, Identity},
};

/// A TLS client, and when its credential runs out.
pub(super) struct Tls {
    pub(super) config: ClientConfig,
    pub(super) expires_at: Option<Timestamp>,
}

impl Tls {
    /// A client that trusts this authority (base64 of PEM) and no other, and has this identity.
    pub(super) fn new(authority: &str, identity: &Identity) -> Result<Self, CredentialsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| {
                CredentialsError::invalid(
                    document::AUTHORITY,
                    "cannot be used: this build has no TLS protocol in common with Kubernetes",
                )
            })?
            .with_root_certificates(roots(authority)?);
        match identity {
            Identity::Token(token) => {
                Ok(Self { config: builder.with_no_client_auth(), expires_at: token_expiry(token) })
            }
            Identity::Certificate { chain, key } => {
                let chain = certificates(chain, document::CERTIFICATE)?;
                let expires_at = chain.first().and_then(not_after);
                let key = private_key(key)?;
                let config = builder.with_client_auth_cert(chain, key).map_err(|_| {
                    CredentialsError::invalid(
                        document::KEY,
                        "is not the key of client-certificate-data, or of a kind that is not supported",
                    )
                })?;
                Ok(Self { config, expires_at })
            }
        }
    }
}

fn roots(authority: &str) -> Result<RootCertStore, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority, document::AUTHORITY)? {
        roots.add(certificate).map_err(|_| {
            CredentialsError::invalid(
                document::AUTHORITY,
                "holds a certificate that cannot be read; give the PEM of the authority",
            )
        })?;
    }
    Ok(roots)
}

fn certificates(text: &str, field: &str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let pem = decode(text, field)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(CredentialsError::invalid(field, "is not base64 of a PEM certificate")),
    }
}

fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    let pem = decode(text, document::KEY)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        CredentialsError::invalid(document::KEY, "is not base64 of a PEM key (PKCS#8, PKCS#1 or SEC1, not encrypted)")
    })
}

fn decode(text: &str, field: &str) -> Result<Vec<u8>, CredentialsError> {
    let packed: String = text.split_ascii_whitespace().collect();
    general_purpose::STANDARD.decode(packed).map_err(|_| CredentialsError::invalid(field, "is not base64"))
}

fn not_after(certificate: &CertificateDer<'static>) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

/// `exp` of a JWT (RFC 7519), if the token is one; read without verification, for status only.
fn token_expiry(token: &str) -> Option<Timestamp> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let payload = general_purpose::URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    Timestamp::from_second(claims["exp"].as_i64()?).ok()
}
