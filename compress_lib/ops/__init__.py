"""The fast operators of binary networks. Chapter 08."""
