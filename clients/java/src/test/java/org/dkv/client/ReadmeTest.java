package org.dkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The program in README.md compiles for Java 11 and does what it says. */
class ReadmeTest {
    @TempDir
    private Path folder;

    @Test
    void theProgramRuns() throws Exception {
        Matcher program = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL)
                .matcher(Files.readString(Path.of("README.md")));
        assertTrue(program.find(), "README.md has a program");
        Path source = Files.writeString(folder.resolve("Hello.java"), program.group(1));
        ByteArrayOutputStream errors = new ByteArrayOutputStream();
        int result = ToolProvider.getSystemJavaCompiler().run(
                null, null, errors, "--release", "11", "-proc:none", "-cp", System.getProperty("java.class.path"), "-d",
                folder.toString(), source.toString());
        assertEquals(0, result, errors::toString);

        ByteArrayOutputStream out = new ByteArrayOutputStream();
        PrintStream before = System.out;
        try (FakeNode node = new FakeNode();
                URLClassLoader loader = new URLClassLoader(
                        new URL[] {folder.toUri().toURL()}, getClass().getClassLoader())) {
            System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
            loader.loadClass("Hello").getMethod("main", String[].class)
                    .invoke(null, (Object) new String[] {node.address()});
        } finally {
            System.setOut(before);
        }
        assertEquals("world\nhello => world\n", out.toString(StandardCharsets.UTF_8).replace("\r", ""));
    }
}
