"""Binary and ternary networks: weights, and activations, of one or two bits. Chapter 08."""
