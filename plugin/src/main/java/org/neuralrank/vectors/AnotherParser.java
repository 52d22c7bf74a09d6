package org.neuralrank.vectors;

import java.util.Collection;
import java.util.Iterator;
import java.util.List;
import org.apache.lucene.document.Field;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.index.IndexSettings;
import org.opensearch.index.mapper.ContentPath;
import org.opensearch.index.mapper.DocumentMapper;
import org.opensearch.index.mapper.DocumentMapperParser;
import org.opensearch.index.mapper.Mapper;
import org.opensearch.index.mapper.MapperService;
import org.opensearch.index.mapper.ParseContext;
import org.opensearch.index.mapper.RootObjectMapper;
import org.opensearch.index.mapper.SeqNoFieldMapper;
import org.opensearch.index.mapper.SourceToParse;

/** The parsing of a document, with other values to be read. (OpenSearch's own such class can't be extended.) */
final class AnotherParser extends ParseContext {

    private final ParseContext context;
    private final XContentParser parser;

    AnotherParser(ParseContext context, XContentParser parser) {
        this.context = context;
        this.parser = parser;
    }

    @Override
    public XContentParser parser() {
        return parser;
    }

    @Override
    protected void addDoc(Document document) {
        throw new UnsupportedOperationException("a vector is no nested document");
    }

    @Override
    public Iterator<Document> iterator() {
        return context.iterator();
    }

    @Override
    public Iterable<Document> nonRootDocuments() {
        return context.nonRootDocuments();
    }

    @Override
    public void addIgnoredField(String field) {
        context.addIgnoredField(field);
    }

    @Override
    public Collection<String> getIgnoredFields() {
        return context.getIgnoredFields();
    }

    @Override
    public DocumentMapperParser docMapperParser() {
        return context.docMapperParser();
    }

    @Override
    public IndexSettings indexSettings() {
        return context.indexSettings();
    }

    @Override
    public SourceToParse sourceToParse() {
        return context.sourceToParse();
    }

    @Override
    public ContentPath path() {
        return context.path();
    }

    @Override
    public Document rootDoc() {
        return context.rootDoc();
    }

    @Override
    public Document doc() {
        return context.doc();
    }

    @Override
    public RootObjectMapper root() {
        return context.root();
    }

    @Override
    public DocumentMapper docMapper() {
        return context.docMapper();
    }

    @Override
    public MapperService mapperService() {
        return context.mapperService();
    }

    @Override
    public Field version() {
        return context.version();
    }

    @Override
    public void version(Field version) {
        context.version(version);
    }

    @Override
    public SeqNoFieldMapper.SequenceIDFields seqID() {
        return context.seqID();
    }

    @Override
    public void seqID(SeqNoFieldMapper.SequenceIDFields seqId) {
        context.seqID(seqId);
    }

    @Override
    public void addDynamicMapper(Mapper mapper) {
        context.addDynamicMapper(mapper);
    }

    @Override
    public List<Mapper> getDynamicMappers() {
        return context.getDynamicMappers();
    }

    @Override
    public void incrementFieldCurrentDepth() {
        context.incrementFieldCurrentDepth();
    }

    @Override
    public void decrementFieldCurrentDepth() {
        context.decrementFieldCurrentDepth();
    }

    @Override
    public void checkFieldDepthLimit() {
        context.checkFieldDepthLimit();
    }

    @Override
    public void incrementFieldArrayDepth() {
        context.incrementFieldArrayDepth();
    }

    @Override
    public void decrementFieldArrayDepth() {
        context.decrementFieldArrayDepth();
    }

    @Override
    public void checkFieldArrayDepthLimit() {
        context.checkFieldArrayDepthLimit();
    }
}
