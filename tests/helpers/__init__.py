"""What several rooms' tests share: random networks, and exact answers for small ones."""
