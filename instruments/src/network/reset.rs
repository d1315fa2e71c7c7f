//! What a firewall that refuses a connection answers to a packet of it: a TCP reset to both ends.

/// The header that macvtap puts before each frame (`struct virtio_net_hdr`). All zero says that the frame is complete,
/// checksums included.
const TAP_HEADER: usize = 10;
const ETHERNET: usize = 14;
const IP: usize = 20;
const TCP: usize = 20;
const FRAME: usize = TAP_HEADER + ETHERNET + IP + TCP;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// The resets that a frame from a tap provokes: one back to its sender and one on to its receiver, each with the
/// sequence number that makes TCP believe it. `None` unless it is TCP over IPv4, and for a reset itself.
pub(super) fn resets(frame: &[u8]) -> Option<[Vec<u8>; 2]> {
    let ethernet = frame.get(TAP_HEADER..TAP_HEADER + ETHERNET)?;
    let ip = frame.get(TAP_HEADER + ETHERNET..)?;
    let header = usize::from(ip.first()? & 0xf) * 4;
    if ethernet[12..] != [8, 0] || header < IP || ip.len() < header || ip[9] != 6 {
        return None;
    }
    let tcp = ip.get(header..header + TCP)?;
    let flags = tcp[13];
    if flags & RST != 0 {
        return None;
    }
    let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    let (sequence, acknowledged) = (number(4), number(8));
    let data = usize::from(u16::from_be_bytes([ip[2], ip[3]])).saturating_sub(header + usize::from(tcp[12] >> 4) * 4);
    let length = data as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let end = |mac: &[u8], address: &[u8], port: &[u8]| End {
        mac: mac.to_vec(),
        address: address.to_vec(),
        port: port.to_vec(),
    };
    let sender = end(&ethernet[6..12], &ip[12..16], &tcp[0..2]);
    let receiver = end(&ethernet[0..6], &ip[16..20], &tcp[2..4]);
    // As RFC 9293 has it: a segment that acknowledges is answered from what it acknowledges, one that does not (the
    // first of a connection) by acknowledging it.
    let back = if flags & ACK != 0 {
        build(&receiver, &sender, acknowledged, 0, RST)
    } else {
        build(&receiver, &sender, 0, sequence.wrapping_add(length), RST | ACK)
    };
    let on = build(&sender, &receiver, sequence, acknowledged, RST | flags & ACK);
    Some([back, on])
}

struct End {
    mac: Vec<u8>,
    address: Vec<u8>,
    port: Vec<u8>,
}

fn build(from: &End, to: &End, sequence: u32, acknowledged: u32, flags: u8) -> Vec<u8> {
    let mut tcp = [&from.port[..], &to.port, &sequence.to_be_bytes(), &acknowledged.to_be_bytes()].concat();
    tcp.extend([(TCP as u8 / 4) << 4, flags, 0, 0, 0, 0, 0, 0]);
    let pseudo = [&from.address[..], &to.address, &[0, 6, 0, TCP as u8]].concat();
    let sum = checksum(&[&pseudo, &tcp]);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());

    let mut ip = vec![0x45, 0, 0, (IP + TCP) as u8, 0, 0, 0x40, 0, 64, 6, 0, 0];
    ip.extend_from_slice(&from.address);
    ip.extend_from_slice(&to.address);
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(FRAME);
    frame.resize(TAP_HEADER, 0);
    for part in [&to.mac[..], &from.mac, &[8, 0], &ip, &tcp] {
        frame.extend_from_slice(part);
    }
    frame
}

/// The Internet checksum over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> [End; 2] {
        [1, 2].map(|host| End {
            mac: vec![2, 0x77, 0, 0, 0, host],
            address: vec![10, 77, 0, host],
            port: vec![0x10 * host, host],
        })
    }

    fn tcp(frame: &[u8]) -> &[u8] {
        &frame[FRAME - TCP..]
    }

    #[test]
    fn a_segment_is_answered_with_a_reset_to_each_end() {
        let [one, two] = ends();
        let [back, on] = resets(&build(&one, &two, 1000, 77, ACK)).expect("is TCP");
        assert_eq!((&tcp(&back)[..4], &tcp(&on)[..4]), (&[0x20, 2, 0x10, 1][..], &[0x10, 1, 0x20, 2][..]));
        assert_eq!((&tcp(&back)[4..8], tcp(&back)[13]), (&77_u32.to_be_bytes()[..], RST));
        assert_eq!((&tcp(&on)[4..12], tcp(&on)[13]), (&[0, 0, 3, 232, 0, 0, 0, 77][..], RST | ACK));
        for reset in [&back, &on] {
            let ip = &reset[TAP_HEADER + ETHERNET..];
            assert_eq!(checksum(&[&ip[..IP]]), 0);
            assert_eq!(checksum(&[&ip[12..IP], &[0, 6, 0, TCP as u8], &ip[IP..]]), 0);
        }
    }

    #[test]
    fn the_first_segment_of_a_connection_is_acknowledged_by_its_reset() {
        let [one, two] = ends();
        let [back, _] = resets(&build(&one, &two, 1000, 0, SYN)).expect("is TCP");
        assert_eq!((&tcp(&back)[4..12], tcp(&back)[13]), (&[0, 0, 0, 0, 0, 0, 3, 233][..], RST | ACK));
    }

    #[test]
    fn nothing_else_is_answered() {
        let [one, two] = ends();
        let segment = build(&one, &two, 1000, 77, ACK);
        assert!(resets(&build(&one, &two, 1000, 77, RST)).is_none());
        for length in 0..segment.len() {
            assert!(resets(&segment[..length]).is_none(), "{length} bytes");
        }
        let mut arp = segment;
        arp[TAP_HEADER + 13] = 6;
        assert!(resets(&arp).is_none());
    }
}
