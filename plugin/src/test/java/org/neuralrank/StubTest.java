package org.neuralrank;
public class StubTest { @org.junit.Test public void t() {} }
