"""The engine: a description of layers becomes a Network, the Network a Program that runs steps on one device."""
