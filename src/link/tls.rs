//! TLS for every connection that we open.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// Trusts the system's certificates, or those in `bundle`.
///
/// # Errors
/// If certificates are `needed` and there are none. If they are not needed at start, the tools of a later edit may
/// still need them, so they are always loaded.
pub fn client_config(needed: bool, bundle: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(bundle));
    if needed && roots.is_empty() {
        match bundle {
            Some(bundle) => bail!("SSL_CERT_FILE: `{}` has no readable certificate", bundle.display()),
            None => {
                bail!("no trusted certificates were found: install ca-certificates, or set SSL_CERT_FILE")
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The system's certificates, or those in `bundle`. Some may not be parsable.
pub(super) fn certificates(bundle: Option<&Path>) -> Vec<CertificateDer<'static>> {
    match bundle {
        Some(bundle) => rustls_native_certs::load_certs_from_paths(Some(bundle), None).certs,
        None => rustls_native_certs::load_native_certs().certs,
    }
}
