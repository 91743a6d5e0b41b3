//! Sizes, ages, ports and commands in docker's own spelling (its units and formatter packages), so that
//! what people know from `docker ps` reads the same here.

use dockctl_api::v1::Port;
use prost_types::{Duration, Timestamp};

/// `1 host`, `2 hosts`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Decimal units as docker shows sizes of images and traffic; `digits` are significant ones.
pub(crate) fn decimal_size(bytes: u64, digits: usize) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], digits)
}

/// Binary units as docker shows memory, four significant digits.
pub(crate) fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut size = bytes as f64;
    let mut unit = 0;
    // Rounded first: 999.96 kB is 1MB, not 1000kB.
    while significant(size, digits).parse::<f64>().unwrap_or(size) >= base && unit + 1 < units.len()
    {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), units[unit])
}

/// As C's `%.{digits}g` for numbers from 0 to 9999.
fn significant(number: f64, digits: usize) -> String {
    let before = if number < 1.0 { 1 } else { number.log10().floor() as usize + 1 };
    let text = format!("{number:.*}", digits.saturating_sub(before));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A span as docker puts it, for example "5 minutes" or "About an hour".
pub(crate) fn span(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours <= 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago something was, as docker puts it; empty when not known.
pub(crate) fn ago(time: Option<&Timestamp>, now: i64) -> String {
    time.map_or_else(String::new, |t| format!("{} ago", span(now.saturating_sub(t.seconds))))
}

/// A span in its largest unit, for example "45s", "2m", "3h" or "5d".
pub(crate) fn short_span(seconds: i64) -> String {
    match seconds.max(0) {
        s @ ..60 => format!("{s}s"),
        s @ ..3600 => format!("{}m", s / 60),
        s @ ..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// Milliseconds with two or three digits, for example "0.42 ms"; empty when not known.
pub(crate) fn millis(duration: Option<&Duration>) -> String {
    duration.map_or_else(String::new, |d| {
        format!("{} ms", significant(d.seconds as f64 * 1e3 + f64::from(d.nanos) / 1e6, 3))
    })
}

/// Whether a text is a whole id: 64 hexadecimal digits, with an algorithm or without.
pub(crate) fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// An id as docker shortens it: 12 digits without the algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}

/// A container's command in quotes, cut to 20 characters unless `whole`.
pub(crate) fn command(command: &str, whole: bool) -> String {
    let text = match command.char_indices().nth(20) {
        Some(_) if !whole => command.chars().take(19).chain(['…']).collect(),
        _ => command.to_owned(),
    };
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Ports as docker lists them: ranges together, `0.0.0.0:80->80/tcp`.
pub(crate) fn ports(ports: &[Port]) -> String {
    let mut ports: Vec<&Port> = ports.iter().collect();
    ports.sort_by_key(|p| (p.container_port, &p.host_ip, p.host_port, &p.protocol));

    struct Range<'a> {
        ip: &'a str,
        protocol: &'a str,
        first: u32,
        last: u32,
    }
    impl Range<'_> {
        fn text(&self) -> String {
            let range = match self.first == self.last {
                true => self.first.to_string(),
                false => format!("{}-{}", self.first, self.last),
            };
            match self.ip {
                "" => format!("{range}/{}", self.protocol),
                ip => format!("{}:{range}->{range}/{}", bracketed(ip), self.protocol),
            }
        }
    }

    let (mut done, mut moved): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut open: Vec<Range<'_>> = Vec::new();
    for port in ports {
        let number = port.container_port;
        let protocol = port.protocol.as_str();
        if port.host_port != 0 && port.host_port != number {
            let ip = bracketed(&port.host_ip);
            moved.push(format!("{ip}:{}->{number}/{protocol}", port.host_port));
            continue;
        }
        let ip = if port.host_port == 0 { "" } else { port.host_ip.as_str() };
        let fresh = Range { ip, protocol, first: number, last: number };
        match open.iter_mut().find(|r| r.ip == ip && r.protocol == protocol) {
            None => open.push(fresh),
            Some(range) if number - range.last <= 1 => range.last = number,
            Some(range) => done.push(std::mem::replace(range, fresh).text()),
        }
    }
    done.extend(open.iter().map(Range::text));
    done.extend(moved);
    done.join(", ")
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        for (bytes, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (187_432_109, "187MB"),
            (7_800_000, "7.8MB"),
            (999_960, "1MB"),
            (1_050_000_000, "1.05GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(decimal_size(bytes, 3), want, "{bytes}");
        }
        assert_eq!(binary_size(22_491_955), "21.45MiB");
        assert_eq!(binary_size(1024), "1KiB");
        assert_eq!(binary_size(16_636_706_816), "15.49GiB");
    }

    #[test]
    fn spans_are_dockers() {
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (300, "5 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (15 * 86_400, "2 weeks"),
            (70 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
            (-5, "Less than a second"),
        ] {
            assert_eq!(span(seconds), want, "{seconds}");
        }
        assert_eq!(short_span(125), "2m");
        assert_eq!(short_span(90_000), "1d");
    }

    fn port(ip: &str, host: u32, container: u32, protocol: &str) -> Port {
        Port {
            host_ip: ip.to_owned(),
            host_port: host,
            container_port: container,
            protocol: protocol.to_owned(),
        }
    }

    #[test]
    fn ports_are_grouped_as_docker_does() {
        let text = |list: &[Port]| ports(list);
        assert_eq!(text(&[port("0.0.0.0", 80, 80, "tcp")]), "0.0.0.0:80->80/tcp");
        assert_eq!(text(&[port("", 0, 5432, "tcp")]), "5432/tcp");
        assert_eq!(
            text(&[port("::", 8080, 80, "tcp"), port("0.0.0.0", 8080, 80, "tcp")]),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            text(&[port("", 0, 81, "tcp"), port("", 0, 80, "tcp"), port("", 0, 90, "tcp")]),
            "80-81/tcp, 90/tcp"
        );
        assert_eq!(
            text(&[port("0.0.0.0", 7000, 7000, "tcp"), port("0.0.0.0", 7001, 7001, "tcp")]),
            "0.0.0.0:7000-7001->7000-7001/tcp"
        );
        let most = u32::MAX;
        let last = [port("", 0, most, "tcp"), port("", 0, most, "tcp"), port("", 0, 0, "tcp")];
        assert_eq!(text(&last), "0/tcp, 4294967295/tcp");
        assert_eq!(text(&[port("", 0, most - 1, "x"), port("", 0, most, "x")]).len(), 23);
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn commands_and_ids_are_cut() {
        assert_eq!(command("sleep 1", false), "\"sleep 1\"");
        assert_eq!(command("docker-entrypoint.sh nginx", false), "\"docker-entrypoint.s…\"");
        assert_eq!(command("docker-entrypoint.sh nginx", true), "\"docker-entrypoint.sh nginx\"");
        assert_eq!(command("echo \"x\"", true), "\"echo \\\"x\\\"\"");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("0123"), "0123");
    }

    #[test]
    fn millis_have_three_digits() {
        let d = |nanos| Duration { seconds: 0, nanos };
        assert_eq!(millis(Some(&d(420_000))), "0.42 ms");
        assert_eq!(millis(Some(&d(12_345_678))), "12.3 ms");
        assert_eq!(millis(None), "");
    }
}
