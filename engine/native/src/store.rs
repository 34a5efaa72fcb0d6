//! The store that the ranks of a run meet in.
use crate::error::{Error, Result, check};
use crate::ffi;
use std::ffi::{CString, c_int, c_void};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::ptr::null_mut;
use std::time::Duration;

/// c10d's TCP store: keys and values that one process keeps for all. Clients block where they wait for a
/// key, and no other call of the same store goes through meanwhile.
#[derive(Debug)]
pub struct Store(*mut c_void);

// SAFETY: the store behind the pointer may be used from any thread; c10d guards its connection with a
// mutex, and `&self` methods only call into that.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Connects to the store at `host`:`port`, trying until `timeout`, which is also how long later calls
    /// wait for a key.
    ///
    /// # Errors
    /// Nobody answers in time; `host` is unknown.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self> {
        Store::open(host, port, -1, timeout)
    }

    /// Keeps a store that `listener` takes connections for, and connects to it; `timeout` as in
    /// [`connect`](Store::connect). (libtorch by itself would listen on every interface.)
    ///
    /// # Errors
    /// The system gives no connection.
    pub fn keep(listener: TcpListener, timeout: Duration) -> Result<Self> {
        let at = listener.local_addr().map_err(|error| Error(error.to_string()))?;
        let port = at.port();
        // From here on it is the store's to close.
        Store::open(&reached(at), port, listener.into_raw_fd(), timeout)
    }

    fn open(host: &str, port: u16, listener: c_int, timeout: Duration) -> Result<Self> {
        let host = text(host)?;
        let mut out = null_mut();
        // SAFETY: `host` ends with NUL and outlives the call, `listener` is none or an open socket that
        // nobody else closes, `out` is written on success.
        check(unsafe {
            ffi::ty_store_connect(&mut out, host.as_ptr(), port, listener, ms(timeout))
        })?;
        Ok(Store(out))
    }

    /// How long later calls wait for a key, where they are not told.
    ///
    /// # Errors
    /// None that is known of.
    pub fn set_timeout(&self, timeout: Duration) -> Result<()> {
        // SAFETY: `self.0` is a live store.
        check(unsafe { ffi::ty_store_set_timeout(self.0, ms(timeout)) })
    }

    /// The same store with `prefix` before every key.
    ///
    /// # Errors
    /// `prefix` holds a NUL.
    pub fn prefixed(&self, prefix: &str) -> Result<Self> {
        let prefix = text(prefix)?;
        let mut out = null_mut();
        // SAFETY: `self.0` is a live store, `prefix` ends with NUL; the new store holds its own reference.
        check(unsafe { ffi::ty_store_prefixed(&mut out, self.0, prefix.as_ptr()) })?;
        Ok(Store(out))
    }

    /// Sets `key`. It does not wait for the server: another connection may not see the key yet.
    ///
    /// # Errors
    /// The store's process is gone.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = text(key)?;
        // SAFETY: a live store, a text that ends with NUL, and a slice with its length.
        check(unsafe { ffi::ty_store_set(self.0, key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// Whether `key` is set.
    ///
    /// # Errors
    /// The store's process is gone.
    pub fn has(&self, key: &str) -> Result<bool> {
        let (key, mut there) = (text(key)?, false);
        // SAFETY: a live store, a text that ends with NUL; `there` outlives the call.
        check(unsafe { ffi::ty_store_check(self.0, key.as_ptr(), &mut there) })?;
        Ok(there)
    }

    /// Waits until `key` is set, and reads it.
    ///
    /// # Errors
    /// Nobody set it within `timeout`; the store's process is gone.
    pub fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        let key = text(key)?;
        taken(|data, length| {
            // SAFETY: a live store, a text that ends with NUL; `taken` gives places to write to.
            unsafe { ffi::ty_store_get(self.0, key.as_ptr(), ms(timeout), data, length) }
        })
    }

    /// Sets `key` unless it is set already; what it is now.
    ///
    /// # Errors
    /// The store's process is gone.
    pub fn set_first(&self, key: &str, value: &[u8]) -> Result<Vec<u8>> {
        let key = text(key)?;
        taken(|found, length| {
            let (data, data_length) = (value.as_ptr(), value.len());
            // SAFETY: a live store, a text that ends with NUL, a slice with its length; `taken` gives
            // places to write to.
            unsafe {
                ffi::ty_store_compare_set(self.0, key.as_ptr(), data, data_length, found, length)
            }
        })
    }

    /// For a process group, which keeps a reference of its own.
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by the shim, released once.
        unsafe { ffi::ty_store_free(self.0) }
    }
}

/// The host by which a process reaches its own listener.
fn reached(at: SocketAddr) -> String {
    match at {
        SocketAddr::V4(at) if at.ip().is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        SocketAddr::V6(at) if at.ip().is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
        SocketAddr::V6(at) if at.scope_id() > 0 => format!("{}%{}", at.ip(), at.scope_id()),
        at => at.ip().to_string(),
    }
}

/// Takes over the bytes that a call of the shim made.
fn taken(call: impl FnOnce(*mut *mut u8, *mut usize) -> *mut std::ffi::c_char) -> Result<Vec<u8>> {
    let (mut data, mut length) = (null_mut(), 0);
    check(call(&mut data, &mut length))?;
    // SAFETY: on success `data` points to `length` bytes that are ours to read and release.
    let bytes = unsafe { std::slice::from_raw_parts(data, length) }.to_vec();
    // SAFETY: the same pointer, released once and not used afterwards.
    unsafe { ffi::ty_free_bytes(data) };
    Ok(bytes)
}

pub(crate) fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error(format!("{text:?} holds a NUL")))
}

pub(crate) fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(300);

    /// A port that nobody had a moment ago.
    pub fn free_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        listener.local_addr().expect("it is bound").port()
    }

    /// A store on loopback, and its port.
    pub fn kept(timeout: Duration) -> (Store, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let port = listener.local_addr().expect("it is bound").port();
        (Store::keep(listener, timeout).expect("a store"), port)
    }

    #[test]
    fn keys() {
        let (ours, port) = kept(SOON);
        let theirs = Store::connect("127.0.0.1", port, SOON).unwrap();
        ours.set("a", b"one").unwrap();
        // `set` does not wait for the server, which may hear the other connection first; `get` waits.
        assert_eq!(theirs.get("a", SOON).unwrap(), b"one");
        assert!(theirs.has("a").unwrap() && !theirs.has("b").unwrap());
        let inner = theirs.prefixed("in").unwrap();
        assert!(!inner.has("a").unwrap());
        assert_eq!(inner.set_first("b", b"x").unwrap(), b"x");
        assert_eq!(ours.prefixed("in").unwrap().set_first("b", b"y").unwrap(), b"x");
        assert!(ours.get("never", SOON).is_err());
        assert!(ours.set("a\0b", b"").unwrap_err().to_string().contains("NUL"));
    }

    #[test]
    fn nobody_there_is_an_error() {
        assert!(Store::connect("127.0.0.1", free_port(), SOON).is_err());
    }

    /// What is listened at is the caller's to say, and is free again once the store is gone.
    #[test]
    fn a_store_is_where_its_listener_is() {
        let all = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = all.local_addr().expect("it is bound").port();
        let store = Store::keep(all, SOON).unwrap();
        store.set("a", b"one").unwrap();
        assert_eq!(store.get("a", SOON).unwrap(), b"one");
        drop(store);
        drop(TcpListener::bind(("127.0.0.1", port)).expect("it is free again"));
        for (at, host) in [
            ("10.1.2.3:1", "10.1.2.3"),
            ("0.0.0.0:1", "127.0.0.1"),
            ("[::]:1", "::1"),
            ("[fe80::1%7]:1", "fe80::1%7"),
        ] {
            assert_eq!(reached(at.parse().expect("an address")), host);
        }
    }
}
