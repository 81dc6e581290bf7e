//! What banger's tests share: an isolated daemon, images made on the spot, fakes of the ports.
