//! Connects to a name with several addresses, of which some may be dead (Happy Eyeballs, RFC 8305, in its simple form).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one address may take to accept a connection.
const ATTEMPT: Duration = Duration::from_millis(1_500);
/// How long an attempt has for itself before the next one begins beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the first of these addresses that accepts. They are tried in turn; the next attempt begins when one
/// fails, or after [`HEAD_START`] beside those that still run.
///
/// # Errors
/// The last attempt's error, if every address failed.
pub(super) async fn connect(found: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut left = interleaved(found).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut error = io::ErrorKind::AddrNotAvailable.into();
    loop {
        attempts.extend(left.next().map(attempt));
        let ended = match left.len() {
            0 => attempts.next().await,
            _ => match timeout(HEAD_START, attempts.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some(Ok(tcp)) => return Ok(tcp),
            Some(Err(failed)) => error = failed,
            None => return Err(error),
        }
    }
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    timeout(ATTEMPT, TcpStream::connect(address)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// IPv6 and IPv4 in turn, beginning with the family that the system prefers. Within a family, the order stays.
fn interleaved(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::new();
    while first.len() + second.len() > 0 {
        mixed.extend(first.next().into_iter().chain(second.next()));
    }
    mixed
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;

    use super::*;

    /// An address whose queue of connections is full, so that the system drops every further request without a word.
    async fn dead() -> (SocketAddr, (TcpListener, TcpStream)) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let only = TcpStream::connect(address).await.unwrap();
        (address, (listener, only))
    }

    async fn live() -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (listener.local_addr().unwrap(), listener)
    }

    async fn refusing() -> SocketAddr {
        live().await.0
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_address_delays_a_connection_by_a_head_start() {
        let (dead, _full) = dead().await;
        let ((live, _open), refusing) = (live().await, refusing().await);
        for (what, addresses, after_ms) in [
            ("one that lives", vec![live], 0),
            ("a dead one first", vec![dead, live], 250),
            ("two dead ones first", vec![dead, dead, live], 500),
            ("one that refuses", vec![refusing, live], 0),
            ("a dead one and one that refuses", vec![dead, refusing, live], 250),
            ("a dead one last", vec![live, dead], 0),
        ] {
            let began = Instant::now();
            let tcp = connect(addresses).await.expect(what);
            assert_eq!(tcp.peer_addr().unwrap(), live, "{what}");
            let took = began.elapsed().as_millis();
            assert!((after_ms..after_ms + 10).contains(&took), "{what}: {took} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_bounded() {
        let (dead, _full) = dead().await;
        let refusing = refusing().await;
        for (what, addresses, after_ms, error) in [
            ("no address", vec![], 0, io::ErrorKind::AddrNotAvailable),
            ("refuses", vec![refusing], 0, io::ErrorKind::ConnectionRefused),
            ("dead", vec![dead], 1_500, io::ErrorKind::TimedOut),
            ("two dead ones", vec![dead, dead], 1_750, io::ErrorKind::TimedOut),
        ] {
            let began = Instant::now();
            assert_eq!(connect(addresses).await.expect_err(what).kind(), error, "{what}");
            let took = began.elapsed().as_millis();
            assert!((after_ms..after_ms + 10).contains(&took), "{what}: {took} ms");
        }
    }

    #[test]
    fn the_families_take_turns() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (six, six_too) = (address("[2001:db8::1]:443"), address("[2001:db8::2]:443"));
        let (four, four_too) = (address("192.0.2.1:443"), address("192.0.2.2:443"));
        for (found, expected) in [
            (vec![six, six_too, four, four_too], vec![six, four, six_too, four_too]),
            (vec![four, four_too, six], vec![four, six, four_too]),
            (vec![four, four_too], vec![four, four_too]),
            (vec![], vec![]),
        ] {
            assert_eq!(interleaved(found), expected);
        }
    }
}
