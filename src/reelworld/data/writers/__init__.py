"""Writers of data sets, one module per format; ``conversion.WRITERS`` lists them."""
