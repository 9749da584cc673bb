"""The study `harder`: CIFAR-10 with a small modern CNN, on phones whose channels were measured on real drives."""
