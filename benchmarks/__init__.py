"""Side by side against peers, each in one run on one machine; see README.md here."""
