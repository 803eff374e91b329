//! The model behind TLS: only the certificates in `SSL_CERT_FILE` are trusted.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::PrivatePkcs8KeyDer;
use switchboard::call::EndReason;
use switchboard_simulator::model::{ModelOptions, ModelServer, Speech};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{CLINIC, Harness, finished};

/// A model behind a TLS proxy with a self-signed certificate; returns its URL and the certificate as PEM.
async fn behind_tls() -> (ModelServer, String, String) {
    let options =
        ModelOptions { think: Duration::from_millis(50), speech: Speech::Tagged, ..ModelOptions::default() };
    let model = ModelServer::start(options).await.unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://localhost:{}/v1/realtime", listener.local_addr().unwrap().port());
    let behind = model.addr();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(socket).await else { return };
                let mut inside = TcpStream::connect(behind).await.unwrap();
                let _ = copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    (model, url, own.cert.pem())
}

#[tokio::test]
async fn a_provider_in_the_bundle_is_trusted() {
    let (model, url, pem) = behind_tls().await;
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    std::fs::write(&bundle, pem).unwrap();
    let settings = [("OPENAI_REALTIME_URL", url.as_str()), ("SSL_CERT_FILE", bundle.to_str().unwrap())];
    let mut harness = Harness::with(CLINIC, &[], ModelOptions::default(), &settings).await;
    let phone = harness.dial(harness.phone());
    assert!(phone.wait_until_playing_for(Duration::from_millis(300)).await, "the greeting comes through TLS");
    phone.hang_up();
    finished(phone).await.assert_clean();
    assert_eq!(harness.ended().await.reason, EndReason::CallerHungUp);
    assert!(model.sessions()[0].authorization_good);
    harness.quit().await;
    model.stop().await;
}

#[tokio::test]
async fn an_untrusted_provider_never_receives_the_key() {
    let (model, url, _) = behind_tls().await;
    let (_, _, another) = behind_tls().await;
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    std::fs::write(&bundle, another).unwrap();
    let settings = [("OPENAI_REALTIME_URL", url.as_str()), ("SSL_CERT_FILE", bundle.to_str().unwrap())];
    let mut harness = Harness::with(CLINIC, &[], ModelOptions::default(), &settings).await;
    let record = finished(harness.dial(harness.phone())).await;
    assert_eq!(record.said[0].text, "Sorry, something broke.");
    assert_eq!(harness.ended().await.reason, EndReason::ModelUnreachable);
    assert!(model.sessions().is_empty(), "nothing was sent to it");
    harness.quit().await;
    model.stop().await;
}
