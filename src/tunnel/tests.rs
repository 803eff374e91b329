use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Runs a fake cloudflared; `patience` limits each of the two waits.
async fn open(script: &str, patience: Duration) -> Result<Tunnel, TunnelError> {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(PROGRAM);
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], 5050));
    Tunnel::open_with(&program, local, patience, patience).await
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

const BOX: &str = "echo '2026-03-02T10:00:00Z INF Requesting new quick Tunnel on trycloudflare.com...' >&2\n\
    echo '2026-03-02T10:00:01Z INF |  Your quick Tunnel has been created! Visit it at (it may take):  |' >&2\n\
    echo '2026-03-02T10:00:01Z INF |  https://four-random-words-here.trycloudflare.com             |' >&2\n";
const CONNECTS: &str =
    "echo '2026-03-02T10:00:02Z INF Registered tunnel connection connIndex=0 protocol=quic' >&2\n";

#[tokio::test]
async fn the_address_is_read_from_the_output() {
    let tunnel = open(&format!("{BOX}{CONNECTS}exec sleep 600"), LONG).await.unwrap();
    assert_eq!(tunnel.url(), "https://four-random-words-here.trycloudflare.com");
    let group = tunnel.keeper.id().unwrap();
    tunnel.close().await;
    // The keeper is reaped, and its group with cloudflared in it is empty.
    let alive =
        std::process::Command::new("sh").args(["-c", &format!("kill -0 -- -{group} 2>/dev/null")]).status();
    assert!(!alive.unwrap().success(), "something still runs");
}

#[tokio::test]
async fn an_error_shows_the_last_lines() {
    let refused = "echo '2026-03-02T10:00:00Z ERR Error unmarshaling QuickTunnel response: error code: 1015 \
                   status_code=\"429 Too Many Requests\"' >&2; echo 'failed to unmarshal quick Tunnel' >&2; exit 1";
    let error = open(refused, LONG).await.err().unwrap();
    assert!(
        matches!(&error, TunnelError::EndedEarly(lines) if lines.contains("429 Too Many Requests")),
        "{error}"
    );

    let lookup =
        "echo 'failed: Post \"https://api.trycloudflare.com/tunnel\": no such host' >&2; exec sleep 600";
    let error = open(lookup, SHORT).await.err().unwrap();
    assert!(matches!(&error, TunnelError::NoAddress(lines) if lines.contains("no such host")), "{error}");

    let error = open("exec sleep 600", SHORT).await.err().unwrap();
    assert!(matches!(&error, TunnelError::NoAddress(lines) if !lines.contains('\n')), "{error}");

    // Much binary output without a line end.
    let error =
        open("head -c 300000 /dev/urandom >&2; printf '\\033[2J\\377' >&2", LONG).await.err().unwrap();
    assert!(matches!(&error, TunnelError::EndedEarly(_)), "{error}");
    assert!(error.to_string().len() < 8_000 && !error.to_string().contains('\u{1b}'), "{error}");

    let died = format!("{BOX}echo 'ERR Unauthorized: Failed to get tunnel' >&2; exit 1");
    let error = open(&died, LONG).await.err().unwrap();
    assert!(matches!(&error, TunnelError::EndedEarly(lines) if lines.contains("Unauthorized")), "{error}");
}

#[tokio::test]
async fn a_version_that_reports_no_connection_is_trusted_after_a_while() {
    let tunnel = open(&format!("{BOX}exec sleep 600"), SHORT).await.unwrap();
    tunnel.close().await;
}

#[tokio::test]
async fn the_end_of_cloudflared_is_noticed() {
    let dies = format!("{BOX}{CONNECTS}sleep 0.2; echo 'ERR no more network activity' >&2; exit 3");
    let mut tunnel = open(&dies, LONG).await.unwrap();
    let error = timeout(LONG, tunnel.ended()).await.unwrap();
    assert!(
        matches!(&error, TunnelError::Ended(lines) if lines.contains("no more network activity")),
        "{error}"
    );
}

#[test]
fn a_line_with_a_requests_address_is_not_kept() {
    let mut output = Output::default();
    output.take("ERR Request failed dest=https://a.trycloudflare.com/media-stream/a-ticket");
    for line in ["one", "two", "three", "four", "five", "six"] {
        output.take(line);
    }
    assert_eq!(output.last_lines(), "\n  two\n  three\n  four\n  five\n  six");
    assert!(!output.last_lines().contains("ticket"));
}

#[test]
fn a_tunnel_leads_to_the_listener() {
    for (listening, expected) in [
        ("0.0.0.0:5050", "127.0.0.1:5050"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("[::]:5050", "[::1]:5050"),
        ("192.0.2.7:5050", "192.0.2.7:5050"),
    ] {
        assert_eq!(local(listening.parse().unwrap()).to_string(), expected);
    }
}
